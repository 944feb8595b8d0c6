"""How steps are carried out, fail, and are interrupted."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ui.setup.console import Report
from ui.setup.lock import Lock
from ui.setup.perform import carry_out
from ui.setup.places import LOCK, LOG, STAMP, venv_python
from ui.setup.problems import Problem
from ui.setup.stamp import is_ready
from ui.setup.types import Plan, Step

ROOT = Path(__file__).parents[3]


def test_a_failed_step_leaves_no_stamp_and_says_what_to_do(copy_of_snug: Path) -> None:
    venv = str(copy_of_snug / ".venv")
    fail = [venv_python(venv), "-c", "raise SystemExit('[Errno 28] No space left on device')"]
    plan = Plan(venv, "cpu", [], [Step("packages", "Install", fail), Step("start", "", [])])
    with Lock(venv, Report()) as lock, pytest.raises(Problem, match="the disk is full"):
        carry_out(plan, lock, Report(), str(copy_of_snug), [""])
    assert not is_ready(str(copy_of_snug), venv, "web")
    assert "No space left" in Path(venv, LOG).read_text(encoding="utf-8")


def test_finished_steps_are_stamped_last(copy_of_snug: Path, capsys: pytest.CaptureFixture[str]) -> None:
    venv = str(copy_of_snug / ".venv")
    see = f"import os; assert not os.path.exists({str(Path(venv, STAMP))!r})"
    steps = [Step("verify", "Look", [venv_python(venv), "-c", see]), Step("start", "", [])]
    with Lock(venv, Report()) as lock:
        carry_out(Plan(venv, "cpu", ["Mind the gap."], steps), lock, Report(), str(copy_of_snug), [""])
    assert is_ready(str(copy_of_snug), venv, "web")
    shown = capsys.readouterr().err.splitlines()
    assert shown[1] == "note: Mind the gap."
    assert shown[2].startswith("[1/1] Look ... done (")


INTERRUPTED = """
import sys
sys.path.insert(0, {root!r})
from ui.setup.console import Report
from ui.setup.lock import Lock
from ui.setup.main import listen
from ui.setup.perform import run_step
from ui.setup.types import Step
listen()
report = Report(verbose=True)
lock = Lock({venv!r}, report)
step = Step("packages", "Install", [sys.executable, "-c", {child!r}])
try:
    run_step(step, {venv!r}, lock, report)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def installing(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path, int]]:
    """A launcher in the middle of a step, the environment's folder, and the process id of the step."""
    venv = tmp_path / "venv"
    child = "import os, time; print('working', os.getpid(), '\\n...', flush=True); time.sleep(60)"
    code = INTERRUPTED.format(root=str(ROOT), venv=str(venv), child=child)
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "working" in line)
        pid = int(line.split()[-1])
        yield process, venv, pid
        for left in (process.pid, pid):
            with contextlib.suppress(OSError):
                os.kill(left, signal.SIGTERM)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_during_a_step_takes_the_step_along(
    installing: tuple[subprocess.Popen[str], Path, int], number: signal.Signals
) -> None:
    process, venv, child = installing
    process.send_signal(number)
    assert process.wait(20) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    with Lock(str(venv), Report()) as free:
        assert free.file


@pytest.mark.skipif(os.name == "nt", reason="Windows ends the step with its console")
def test_a_killed_launcher_keeps_others_out_until_its_step_ends(
    installing: tuple[subprocess.Popen[str], Path, int],
) -> None:
    import fcntl

    process, venv, child = installing
    second = Lock.__new__(Lock)
    with (venv / LOCK).open("a+", encoding="utf-8") as second.file:
        assert not second.take()
        process.kill()
        process.wait()
        assert not second.take()
        os.kill(child, signal.SIGKILL)
        fcntl.flock(second.file, fcntl.LOCK_EX)  # comes back as soon as the step has gone
