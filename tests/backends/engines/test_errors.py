"""What upstream raises becomes what a person can act on."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from backends.engines.errors import as_snug_errors, translate
from backends.errors import (
    Cancelled,
    DeviceMapInvalid,
    DiskFull,
    FolderReadOnly,
    InternalError,
    ModelDamaged,
    ModelUnsupported,
    OutOfGpuMemory,
    OutOfRam,
    PackageMissing,
    SnugError,
)
from ui.i18n import Translator

CUDA = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 1 has a total capacity of 7.79 GiB of which "
    "12.06 MiB is free."
)
CPU = (
    "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to allocate "
)
WINDOWS = "[enforce fail] data. DefaultCPUAllocator: not enough memory: you tried to allocate 4096000 bytes."


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError(CUDA), OutOfGpuMemory),
        (RuntimeError(CPU + "8000000 bytes. Error code 12"), OutOfRam),
        (RuntimeError(WINDOWS), OutOfRam),
        (MemoryError(), OutOfRam),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), OutOfRam),
        (OSError(errno.ENOSPC, "No space left on device"), DiskFull),
        (SafetensorError("Error while deserializing header: HeaderTooLarge"), ModelDamaged),
        (FileNotFoundError(errno.ENOENT, "No such file"), ModelDamaged),
        (ValueError("Some modules are dispatched on the CPU or the disk. Make sure ..."), DeviceMapInvalid),
        (ValueError("lm_head.weight doesn't have any device set. device_map"), DeviceMapInvalid),
        (RuntimeError("size mismatch for lm_head.weight"), ModelDamaged),
        (KeyError("llava_from_the_future"), ModelUnsupported),
        (ModuleNotFoundError("No module named 'bitsandbytes'", name="bitsandbytes"), PackageMissing),
        (ZeroDivisionError(), InternalError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else type(value).__name__,
)
def test_loading(error: BaseException, expected: type[SnugError], tmp_path: Path) -> None:
    found = translate(error, "loading the model", str(tmp_path))
    assert type(found) is expected
    assert "{" not in str(found)
    assert str(error)[:40] not in str(found) or not str(error)


def test_figures_are_kept() -> None:
    gpu = translate(torch.OutOfMemoryError(CUDA), "answering")
    assert gpu.values["device"] == "GPU 1"
    assert gpu.values["needed_bytes"] == int(2.5 * 2**30)
    ram = translate(RuntimeError(WINDOWS), "answering")
    assert ram.values["needed_bytes"] == 4_096_000
    assert int(ram.values["free_bytes"]) > 0


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written(code: int, tmp_path: Path) -> None:
    found = translate(OSError(code, "no"), "loading the model", str(tmp_path), str(tmp_path / "offload"))
    assert isinstance(found, FolderReadOnly)
    assert "offload" in str(found)


def test_the_windows_page_file() -> None:
    error = OSError(errno.EINVAL, "The paging file is too small for this operation to complete")
    error.winerror = 1455  # type: ignore[attr-defined]
    assert isinstance(translate(error, "loading the model", "x"), OutOfRam)


@pytest.mark.parametrize("error", [Cancelled(), KeyboardInterrupt()])
def test_own_errors_and_interrupts_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, as_snug_errors("answering"):
        raise error
    assert caught.value is error


def test_the_cause_is_kept_for_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InternalError) as caught, as_snug_errors("answering"):
        raise ZeroDivisionError("secret upstream words")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "secret upstream words" not in str(caught.value)
    assert "secret upstream words" in caplog.text


def test_what_upstream_raised_is_told_in_the_persons_language() -> None:
    say = Translator("zh")
    crowded = translate(MemoryError(), "answering")
    unexpected = translate(ZeroDivisionError(), "loading the model", "/models/x")
    assert say.text(crowded.what_text) == "在回答时内存不足。"
    assert say.text(unexpected.why_text) == "加载模型时出现意外的 ZeroDivisionError。"
