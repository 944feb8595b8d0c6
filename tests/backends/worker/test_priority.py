"""A process that leaves the machine to others: lower in priority, whoever started it."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from backends.worker.priority import give_way
from tests.backends.worker.conftest import Spawn

IDLE = "import sys; sys.stdin.read()"


@pytest.mark.skipif(sys.platform == "win32", reason="counts niceness")
def test_priority_is_lowered_once_and_never_raised() -> None:
    with subprocess.Popen([sys.executable, "-c", IDLE], stdin=subprocess.PIPE) as process:
        child = psutil.Process(process.pid)
        assert give_way(child)
        lowered = child.nice()
        assert lowered > os.getpriority(os.PRIO_PROCESS, 0) or lowered >= 10
        child.nice(15)
        assert give_way(child)
        assert child.nice() == 15


def test_a_process_that_is_gone_is_no_failure() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        gone = psutil.Process(process.pid)
    assert not give_way(gone)


@pytest.mark.skipif(sys.platform == "win32", reason="counts niceness")
def test_a_worker_gives_way_where_the_setting_says_so(spawn: Spawn) -> None:
    own = psutil.Process().nice()
    usual = spawn("fake")
    assert usual._ready.wait(60)
    assert psutil.Process(usual.pid).nice() == own
    polite = spawn("fake", environment={"SNUG_LEAVE_ROOM": "1"})
    assert polite._ready.wait(60)
    assert psutil.Process(polite.pid).nice() == max(own, 10)
