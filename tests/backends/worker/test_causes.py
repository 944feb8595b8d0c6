"""The last words of a process, in words a person understands."""

from __future__ import annotations

import pytest

from backends.worker.causes import lacked_kernels, ran_out_of_ram, why_it_ended

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


@pytest.mark.parametrize(
    ("exit_code", "log", "kills", "expected"),
    [
        pytest.param(-9, "", 1, True, id="the kernel ended a process for memory, and this one is killed"),
        pytest.param(-9, "", 0, False, id="killed, by somebody else"),
        pytest.param(-11, "", 1, False, id="a crash in native code while others ran out"),
        pytest.param(0xC0000017, "", 0, True, id="Windows had no memory"),
        pytest.param(0xC000012D, "", 0, True, id="Windows' page file was too small"),
        pytest.param(1, TRACEBACK + "MemoryError", 0, True, id="Python's own memory error"),
        pytest.param(1, TRACEBACK + "torch.OutOfMemoryError: HIP", 0, False, id="a GPU's memory"),
        pytest.param(0, "MemoryError", 0, False, id="a quiet end"),
        pytest.param(None, "", 1, False, id="nothing known"),
    ],
)
def test_ran_out_of_ram(exit_code: int | None, log: str, kills: int, *, expected: bool) -> None:
    assert ran_out_of_ram(exit_code, log, oom_kills=kills) is expected


NO_KERNEL = "Error no kernel image is available for execution on the device at line 380 in file "


@pytest.mark.parametrize(
    ("exit_code", "log", "expected"),
    [
        pytest.param(1, f"loading\n{NO_KERNEL}/src/csrc/ops.cu\n", True, id="Linux"),
        pytest.param(1, f"{NO_KERNEL}D:\\a\\bitsandbytes\\csrc\\ops.cu", True, id="Windows"),
        pytest.param(1, "Error invalid argument at line 380 in file /src/csrc/ops.cu", False, id="another"),
        pytest.param(1, TRACEBACK + f"RuntimeError: {NO_KERNEL}csrc", False, id="somebody quotes it"),
        pytest.param(-6, f"{NO_KERNEL}/src/csrc/ops.cu\n", False, id="ended by something else later"),
        pytest.param(0, f"{NO_KERNEL}/src/csrc/ops.cu\n", False, id="a quiet end"),
        pytest.param(None, f"{NO_KERNEL}/src/csrc/ops.cu\n", False, id="nothing known"),
    ],
)
def test_bitsandbytes_without_code_for_the_gpu(exit_code: int | None, log: str, *, expected: bool) -> None:
    assert lacked_kernels(exit_code, log) is expected
