"""What tests start ends with them, whatever it has started itself."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.programs import Program, running

CHILD = "import sys, time; print('child', flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
PARENT = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]]); {after}"


def family_of_two(after: str, child: str, cwd: Path) -> Program:
    command = [sys.executable, "-c", PARENT.format(after=after), child]
    program = Program(command, cwd=cwd, stdout=subprocess.PIPE)
    started = threading.Event()
    program.read_lines(lambda _: started.set(), at_end=lambda: None)
    assert started.wait(60)
    return program


@pytest.mark.parametrize(
    "after", ["import time; time.sleep(600)", "pass"], ids=["parent runs", "parent has ended by itself"]
)
def test_a_grandchild_that_holds_the_pipe_is_named_and_killed(after: str, tmp_path: Path) -> None:
    program = family_of_two(after, CHILD, tmp_path)
    if after == "pass":
        program.wait(60)
    (grandchild,) = [one for one in program.family() if one.pid != program.pid]
    left = program.end(patience_s=1)
    assert [one.split()[0] for one in left] == [str(grandchild.pid)]
    assert program.family() == []
    assert program.stdout is not None
    assert program.stdout.closed


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no signal that can be ignored")
def test_a_program_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    program = family_of_two("import time; time.sleep(600)", STUBBORN + CHILD, tmp_path)
    program.end(patience_s=1)
    assert program.family() == []


def test_what_ends_by_itself_leaves_nothing_to_name(tmp_path: Path) -> None:
    with running([sys.executable, "-c", "print('done')"], cwd=tmp_path, stdout=subprocess.PIPE) as program:
        output, _ = program.communicate(timeout=60)
    assert output == "done\n"
    assert program.returncode == 0


def test_a_failing_test_ends_what_it_started(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        running([sys.executable, "-c", CHILD], cwd=tmp_path, stdout=subprocess.PIPE) as program,
    ):
        raise ZeroDivisionError
    assert program.family() == []
    assert program.returncode is not None
