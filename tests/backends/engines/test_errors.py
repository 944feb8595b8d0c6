"""What upstream raises becomes what a person can act on."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest
import torch
import transformers
from safetensors import SafetensorError

from backends.engines.base import ChatRequest
from backends.engines.errors import as_snug_errors, translate
from backends.engines.placing import NoRoom
from backends.engines.tensors import Slot
from backends.engines.transformers_engine import TransformersEngine
from backends.errors import (
    Cancelled,
    DeviceMapInvalid,
    DiskFull,
    FolderReadOnly,
    GpuGone,
    GpuUnsupported,
    InternalError,
    KernelsMissing,
    ModelDamaged,
    ModelUnsupported,
    OutOfGpuMemory,
    OutOfRam,
    PackageMissing,
    SnugError,
)
from backends.messages import Message, Role, SamplingParams, TextPart
from backends.placement.moving import Stuck
from tests.support.plans import make_plan
from ui.i18n import Translator

CUDA = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 1 has a total capacity of 7.79 GiB of which "
    "12.06 MiB is free."
)
# The same with PYTORCH_ALLOC_CONF=backend:cudaMallocAsync.
ASYNC = (
    "Allocation on device 1 would exceed allowed memory. (out of memory)\n"
    "Currently allocated     : 6.10 GiB\nRequested               : 512.00 MiB\n"
)
CPU = (
    "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to allocate "
)
WINDOWS = "[enforce fail] data. DefaultCPUAllocator: not enough memory: you tried to allocate 4096000 bytes."


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError(CUDA), OutOfGpuMemory),
        (torch.OutOfMemoryError(ASYNC), OutOfGpuMemory),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported"), OutOfGpuMemory),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            OutOfGpuMemory,
        ),
        (RuntimeError("CUDA error: invalid device ordinal"), GpuGone),
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


LINEAR = torch.nn.Linear(2, 2)
MISTAKES: dict[str, Callable[[], object]] = {
    "a key that a table of ours lacks": lambda: Slot(LINEAR, "scale", "x.scale", buffer=False).read(),
    "an attribute that a thing lacks": lambda: Slot(object(), "w", "x.w", buffer=False).read(),  # type: ignore[arg-type]
    "torch is given what it can't take": lambda: Slot(LINEAR, "weight", "x.weight", buffer=False).write("?"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_of_ours_is_not_blamed_on_the_model(name: str) -> None:
    with pytest.raises(InternalError), as_snug_errors("loading the model", "/models/x"):
        MISTAKES[name]()


@pytest.mark.parametrize(
    "config", [{"model_type": "llava_from_the_future"}, {"model_type": "llama", "head_dim": "x"}]
)
def test_what_transformers_does_not_know_is_the_models(config: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")

    with pytest.raises(ModelUnsupported), as_snug_errors("loading the model", str(tmp_path)):
        transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(tmp_path))


def test_figures_are_kept() -> None:
    gpu = translate(torch.OutOfMemoryError(CUDA), "answering")
    assert gpu.values["device"] == "GPU 1"
    assert gpu.values["needed_bytes"] == int(2.5 * 2**30)
    later = translate(torch.OutOfMemoryError(ASYNC), "answering")
    assert later.values["needed_bytes"] == 512 * 2**20
    ram = translate(RuntimeError(WINDOWS), "answering")
    assert ram.values["needed_bytes"] == 4_096_000
    assert int(ram.values["free_bytes"]) > 0


def says(position: int | None) -> torch.OutOfMemoryError:
    """What torch raises about the GPU that it numbers `position`."""
    where = "" if position is None else f" GPU {position} has a total capacity of 7.79 GiB."
    return torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate 20.00 MiB.{where}")


@pytest.mark.parametrize(
    ("error", "gpus", "device"),
    [
        (says(0), (0,), "GPU 0"),
        (says(0), (3,), "GPU 3"),
        (says(0), (2, 3), "GPU 2"),
        (says(1), (2, 3), "GPU 3"),
        (says(1), (0, 2, 7), "GPU 2"),
        (torch.OutOfMemoryError(ASYNC), (2, 3), "GPU 3"),
        (says(None), (3,), "GPU 3"),
        (says(None), (2, 3), "A GPU"),
        (says(5), (2, 3), "A GPU"),
        (says(1), (), "GPU 1"),
        (RuntimeError("CUDA error: out of memory"), (5,), "GPU 5"),
        (RuntimeError("CUDA error: out of memory"), (2, 3), "A GPU"),
        (RuntimeError("GPU 1 has fallen off the bus"), (2, 3), "GPU 3"),
        (RuntimeError("No handle for GPU 0000:01:00.0: GPU is lost"), (2, 3), "A GPU"),
        (RuntimeError("CUDA error: invalid device ordinal"), (2, 3), "A GPU"),
        (NoRoom(Stuck("cuda:1", 9, 1)), (2, 3), "GPU 3"),
    ],
    ids=[
        "the only one", "one of 4", "the first of 2 and 3 of 8", "the second of 2 and 3 of 8",
        "three of 8, the middle one", "the asynchronous allocator", "not told, one in use",
        "not told, two in use", "one that this process does not see", "nothing is hidden",
        "the driver itself, one in use", "the driver itself, two in use", "a lost one",
        "a lost one by its bus", "a lost one, not told", "no room to move layers to it",
    ],
)  # fmt: skip
def test_a_gpu_is_named_by_the_drivers_number(
    error: BaseException, gpus: tuple[int, ...], device: str
) -> None:
    """Torch counts from 0 what it sees; the plan, the driver and the person mean the driver's numbers."""
    found = translate(error, "answering", gpus=gpus)
    assert str(found.values["device"]) == device
    assert str(found.what_text).startswith(f"{device} ")


@pytest.mark.parametrize("moment", ["load", "chat", "prime"])
def test_the_engine_tells_which_gpus_it_sees(
    moment: str, models: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs_out(*_: object, **__: object) -> Any:
        raise says(1)

    engine, asked = TransformersEngine(), (Message(Role.USER, (TextPart("Hello?"),)),)
    plan = make_plan(models("llava"), visible_gpus=(2, 3))
    tasks: dict[str, Callable[[], object]] = {
        "load": lambda: engine.load(plan, lambda _: None, Flag()),
        "chat": lambda: list(engine.chat(ChatRequest("tab", asked, SamplingParams()), Flag())),
        "prime": lambda: engine.prime("tab", asked, Flag()),
    }
    try:
        if moment != "load":
            tasks["load"]()
            monkeypatch.setattr("backends.engines.transformers_engine.answer", runs_out)
            monkeypatch.setattr(engine._path, "prime", runs_out)
        monkeypatch.setattr("backends.engines.transformers_engine.load_model", runs_out)
        with pytest.raises(OutOfGpuMemory) as caught:
            tasks[moment]()
        assert caught.value.values["device"] == "GPU 3"
    finally:
        engine.close()


NO_KERNEL = "CUDA error: no kernel image is available for execution on the device"
KEPLER = "Tesla K80 with CUDA capability sm_37 is not compatible with the current PyTorch installation."
NO_CODE = {
    "the only one": (
        NO_KERNEL,
        [(6, 1)],
        (3,),
        "3",
        "capability is 6.1; this PyTorch holds code for sm_75, sm_86",
    ),
    "the second of two": (NO_KERNEL, [(8, 6), (6, 1)], (0, 2), "2", "capability is 6.1"),
    "both": (NO_KERNEL, [(5, 2), (6, 1)], (1, 2), "1,2", "capability is 5.2"),
    "its list says otherwise": (NO_KERNEL, [(8, 6)], (4,), "4", "no code in it that this card can run"),
    "nobody knows which": (NO_KERNEL, [(8, 6), (8, 6)], (0, 1), "", "no code in it that this card can run"),
    "in torch's own words": (KEPLER, [(3, 7)], (0,), "0", "capability is 3.7"),
}


@pytest.mark.parametrize("name", NO_CODE)
@pytest.mark.parametrize("kind", [RuntimeError, torch.AcceleratorError])
def test_a_gpu_that_torch_has_no_code_for(
    kind: type[RuntimeError], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    message, capabilities, gpus, numbers, why = NO_CODE[name]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capabilities[index])
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_86"])

    found = translate(kind(message), "loading the model", "/models/x", gpus=gpus)

    assert isinstance(found, GpuUnsupported)
    assert found.values["gpus"] == numbers
    named = ", ".join(f"GPU {number}" for number in numbers.split(",")) if numbers else "A GPU"
    assert str(found.what_text) == f"The installed PyTorch can't use {named}."
    assert why in str(found.why_text)
    assert found.action == "without_gpu"


def _raise_in(module: str, error: Exception) -> Exception:
    """`error` as it comes out of a function of `module`."""
    space: dict[str, Any] = {"__name__": module, "error": error}
    exec("def fails():\n    raise error", space)
    with pytest.raises(type(error)) as caught:
        space["fails"]()
    return caught.value


OPS = "bitsandbytes.backends.cuda.ops"
# (the code that was running, what was said, the GPUs' capabilities, whose lack it is)
WHOSE = {
    "bitsandbytes lacks it": (OPS, NO_KERNEL, [(8, 6)], "bitsandbytes can't use GPU 4"),
    "PyTorch lacks it as well": (OPS, NO_KERNEL, [(6, 1)], "PyTorch can't use GPU 4"),
    "nobody else was at work": ("transformers.models", NO_KERNEL, [(8, 6)], "PyTorch can't use GPU 4"),
    "the message names it": ("torch.ops", f"bitsandbytes: {NO_KERNEL}", [(8, 6)], "bitsandbytes can't use"),
    "PyTorch's own words": (OPS, KEPLER, [(8, 6)], "PyTorch can't use GPU 4"),
    "nobody knows which GPU": (OPS, NO_KERNEL, [(8, 6), (8, 6)], "bitsandbytes can't use A GPU"),
}


@pytest.mark.parametrize("name", WHOSE)
def test_what_bitsandbytes_lacks_is_not_laid_to_pytorch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, message, capabilities, said = WHOSE[name]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capabilities[index])
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_86"])

    error = _raise_in(module, RuntimeError(message))
    found = translate(error, "answering", gpus=(4,) if len(capabilities) == 1 else (0, 1))

    assert said in str(found.what_text)
    assert isinstance(found, KernelsMissing if "bitsandbytes" in said else GpuUnsupported)
    if isinstance(found, KernelsMissing):
        assert "8-bit and 4-bit" in str(found.why_text)
        assert "bf16, fp16" in str(found.remedy_text)


def test_what_moving_lacks_is_told_with_its_figures() -> None:
    found = translate(NoRoom(Stuck("cpu", 9, 1)), "moving the model", "m", gpus=(2, 3))
    assert isinstance(found, OutOfRam)
    assert (found.values["needed_bytes"], found.values["free_bytes"]) == (9, 1)


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
