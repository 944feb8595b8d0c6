"""The last words of a process, in words a person understands."""

from __future__ import annotations

import pytest

from backends.worker.causes import why_it_ended

TRACEBACK = 'Traceback (most recent call last):\n  File "engine.py", line 3, in load\n'


@pytest.mark.parametrize(
    ("exit_code", "log", "expected"),
    [
        pytest.param(-9, "", "memory ran out", id="the system's memory killer"),
        pytest.param(-11, "Fatal Python error: Segmentation fault", "signal 11", id="a crash in native code"),
        pytest.param(-15, "", "Another program ended it", id="a polite kill"),
        pytest.param(-64, "", "signal 64", id="a signal without a name"),
        pytest.param(0xC0000005, "", "memory that is not its own", id="Windows access violation"),
        pytest.param(0xC000012D, "", "page file", id="Windows commit limit"),
        pytest.param(1, TRACEBACK + "MemoryError", "ran out of memory", id="Python's own memory error"),
        pytest.param(1, TRACEBACK + "torch.OutOfMemoryError: HIP", "ran out of memory", id="torch's"),
        pytest.param(1, TRACEBACK + "pkg.SomeError: secret /path", "unexpected SomeError", id="any other"),
        pytest.param(70, "loading\n", "code 70", id="only a code"),
        pytest.param(0, "", "code 0", id="a quiet end"),
        pytest.param(None, "", "did not say why", id="nothing known"),
    ],
)
def test_cause(exit_code: int | None, log: str, expected: str) -> None:
    said = str(why_it_ended(exit_code, log))
    assert expected in said
    assert "Traceback" not in said
    assert "secret" not in said
