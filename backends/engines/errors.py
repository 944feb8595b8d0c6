"""Turn exceptions of torch, transformers and the system into the errors that a person can act on."""

from __future__ import annotations

import errno
import logging
import re
import shutil
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from backends.engines.placing import CPU, NoRoom
from backends.engines.stages import ANSWERING, LOADING, MOVING, READING_AHEAD
from backends.errors import (
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
from backends.hardware.builds import has_code
from backends.text import Text, Value

_log = logging.getLogger(__name__)
_STAGES = {stage.template: stage for stage in (ANSWERING, LOADING, MOVING, READING_AHEAD)}
_LOGS = Text("engine.logs", "the logs folder")
_WEIGHTS = Text("engine.weights", "the .safetensors files")
_CONFIG_AND_WEIGHTS = Text("model.all_files", "config.json and the weight files")
_TRIED = re.compile(r"(?:Tried to allocate|Requested\s*:) ([\d.]+) (bytes|KiB|MiB|GiB)|allocate (\d+) bytes")
# torch's own number: "GPU 0 has a total capacity", with cudaMallocAsync "Allocation on device 0".
_GPU = re.compile(r"\b(?:GPU|on device) (\d+)\b(?!:)")
_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_CPU_ALLOCATION = ("DefaultCPUAllocator", "not enough memory", "Cannot allocate memory", "bad alloc")
_NO_GPU = (
    *("invalid device ordinal", "no CUDA-capable device", "not compiled with CUDA", "no NVIDIA driver"),
    *("GPU is lost", "has fallen off the bus", "No CUDA GPUs are available"),
)
# What CUDA and its libraries say of a card that nothing was compiled for.
_NO_KERNEL = "no kernel image is available"
_NO_CODE = (
    _NO_KERNEL,
    "is not compatible with the current PyTorch",
    "CUDA capability sm_",
)
# What CUDA and its libraries say when they ask the driver themselves; they never name the GPU.
_GPU_ALLOCATION = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
# Libraries that raise for a mistake of their caller.
_MESSENGERS = ("torch", "numpy")
_PAGE_FILE_TOO_SMALL = 1455  # ERROR_COMMITMENT_LIMIT: RAM and page file of Windows are used up


@contextmanager
def as_snug_errors(
    stage: str, model_path: str = "", writes_to: str | None = None, gpus: Sequence[int] = ()
) -> Iterator[None]:
    """Re-raise anything from upstream as a `SnugError`; `stage` reads like "answering".

    `gpus` are the driver's numbers of the GPUs that this process sees, in torch's order.
    """
    try:
        yield
    except (SnugError, GeneratorExit, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        _log.exception("while %s", stage)
        raise translate(error, stage, model_path, writes_to, gpus) from error


def translate(
    error: BaseException,
    stage: str,
    model_path: str = "",
    writes_to: str | None = None,
    gpus: Sequence[int] = (),
) -> SnugError:
    """Find the error of Snug that tells what `error` means; it names a GPU by the driver's number."""
    message = str(error)
    if found := _device(error, message, stage, gpus):
        return found
    if isinstance(error, MemoryError) or any(mark in message for mark in _CPU_ALLOCATION):
        return _out_of_ram(message, stage)
    if isinstance(error, OSError) and (found := _system(error, stage, model_path, writes_to)):
        return found
    if isinstance(error, ImportError):
        package = (error.name or "A package").split(".")[0]
        return PackageMissing(
            package=package,
            detail=Text("engine.needs_package", "The model needs it, and it could not be imported."),
        )
    if model_path:
        return _loading(error, message, model_path)
    return _internal(error, stage)


def _loading(error: BaseException, message: str, model_path: str) -> SnugError:
    if isinstance(error, SafetensorError):
        detail = Text("engine.bad_weights", "A weight file is truncated or is not a safetensors file.")
        return ModelDamaged(path=model_path, file=_WEIGHTS, detail=detail)
    if isinstance(error, OSError):
        return ModelDamaged(
            path=model_path,
            file=Text("engine.missing_files", "the missing files"),
            detail=Text("engine.file_missing", "A file that the model needs is missing or unreadable."),
        )
    if "device_map" in message or "offload" in message or "dispatched on the CPU" in message:
        return DeviceMapInvalid(
            detail=Text("engine.map_mismatch", "The model's modules and the map do not match."),
            suggestion=Text("engine.map_mismatch_remedy", "Let the preset choose the placement."),
        )
    if isinstance(error, RuntimeError) and ("size mismatch" in message or "shape" in message):
        detail = Text(
            "engine.sizes", "Tensors in the weight files do not have the sizes that config.json states."
        )
        return ModelDamaged(path=model_path, file=_CONFIG_AND_WEIGHTS, detail=detail)
    unknown = (ValueError, KeyError, TypeError, AttributeError, StrictDataclassError)
    if isinstance(error, unknown) and not _is_ours(error):
        return ModelUnsupported(
            path=model_path,
            detail=Text(
                "engine.unknown",
                "The installed transformers library does not know this kind of model or its files.",
            ),
            suggestion=USE_LLAVA,
        )
    return _internal(error, "loading the model")


def _is_ours(error: BaseException) -> bool:
    """Whether our own code stumbled, and not a library over a model's files.

    The last of both that the traceback names decides; torch and Python raise for whoever called them.
    """
    found = False
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in _MESSENGERS and package not in sys.stdlib_module_names:
            found = package == "backends"
    return found


def _came_through(error: BaseException, package: str) -> bool:
    """Whether the error names `package`, or its code was running."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    names = (str(frame.f_globals.get("__name__", "")) for frame in frames)
    return package in str(error) or any(name.partition(".")[0] == package for name in names)


USE_LLAVA = Text(
    "engine.use_llava", "Choose a model in the Hugging Face format of LLaVA, or the starter model."
)


def _spoken(stage: str) -> Value:
    """The stage as a sentence has it, translated where a person may meet it."""
    return _STAGES.get(stage, stage)


def _internal(error: BaseException, stage: str) -> InternalError:
    detail = Text.of(
        "engine.unexpected",
        "An unexpected {kind} came while {stage}.",
        kind=type(error).__name__,
        stage=_spoken(stage),
    )
    return InternalError(detail=detail, log=_LOGS)


def _system(error: OSError, stage: str, model_path: str, writes_to: str | None) -> SnugError | None:
    path = writes_to or str(error.filename or model_path or Path.cwd())
    if getattr(error, "winerror", None) == _PAGE_FILE_TOO_SMALL or error.errno == errno.ENOMEM:
        return _out_of_ram("", stage)
    if error.errno == errno.ENOSPC:
        existing = next((p for p in (Path(path), *Path(path).parents) if p.exists()), Path.cwd())
        return DiskFull(path=path, needed_bytes=0, free_bytes=shutil.disk_usage(existing).free)
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) and writes_to:
        return FolderReadOnly(path=path, detail=Text("engine.no_writing", "Writing there is not allowed."))
    return None


def _device(error: BaseException, message: str, stage: str, gpus: Sequence[int]) -> SnugError | None:
    if isinstance(error, NoRoom):
        return _no_room(error, stage, gpus)
    if isinstance(error, torch.OutOfMemoryError):
        return _out_of_gpu_memory(message, stage, gpus)
    if not isinstance(error, RuntimeError | AssertionError):
        return None
    kernels = _NO_KERNEL in message and _came_through(error, "bitsandbytes")
    return _by_message(message, stage, gpus, kernels=kernels)


def _by_message(message: str, stage: str, gpus: Sequence[int], *, kernels: bool) -> SnugError | None:
    if any(mark in message for mark in _GPU_ALLOCATION):
        return _out_of_gpu_memory(message, stage, gpus)
    if any(mark in message for mark in _NO_CODE):
        return _unsupported(gpus, kernels=kernels)
    if any(mark in message for mark in _NO_GPU):
        return _gpu_gone(message, gpus)
    return None


def _unsupported(gpus: Sequence[int], *, kernels: bool) -> GpuUnsupported | KernelsMissing:
    """Which GPUs the installed torch has no code for: its own list tells, CUDA's message does not.

    `kernels`: it was said to bitsandbytes, whose code is for a list of its own.
    """
    try:
        capabilities = [torch.cuda.get_device_capability(index) for index in range(torch.cuda.device_count())]
        names = tuple(torch.cuda.get_arch_list())
    except (RuntimeError, AssertionError):  # the driver answers no more after the first error
        capabilities, names = [], ()
    lacking = [at for at, capability in enumerate(capabilities) if not has_code(capability, names)]
    numbers = [gpus[at] if at < len(gpus) else at for at in lacking]
    detail = Text("engine.no_code", "CUDA finds no code in it that this card can run.")
    if not lacking and kernels:
        return KernelsMissing(device=_gpu_name(0 if len(gpus) == 1 else None, gpus))
    if not lacking and len(gpus) == 1:
        numbers = list(gpus)
    elif lacking:
        detail = Text.of(
            "engine.no_code_for",
            "The card's compute capability is {capability}; this PyTorch holds code for {names}.",
            capability="{}.{}".format(*capabilities[lacking[0]]),
            names=", ".join(names) or "-",
        )
    return GpuUnsupported(
        device=", ".join(f"GPU {number}" for number in numbers) or _gpu_name(None, gpus),
        gpus=",".join(map(str, numbers)),
        detail=detail,
    )


def _gpu_gone(message: str, gpus: Sequence[int]) -> GpuGone:
    try:
        count = torch.cuda.device_count()
    except (RuntimeError, AssertionError):
        count = 0
    return GpuGone(device=_gpu_name(_position(message, gpus), gpus), count=count)


def _out_of_gpu_memory(message: str, stage: str, gpus: Sequence[int]) -> OutOfGpuMemory:
    position = _position(message, gpus)
    free = [_free(index) for index in (range(max(1, len(gpus))) if position is None else (position,))]
    return OutOfGpuMemory(
        device=_gpu_name(position, gpus),
        stage=_spoken(stage),
        needed_bytes=_wanted(message),
        free_bytes=min(free),
    )


def _no_room(error: NoRoom, stage: str, gpus: Sequence[int]) -> SnugError:
    figures = {"needed_bytes": error.stuck.needed_bytes, "free_bytes": error.stuck.free_bytes}
    if error.stuck.target == CPU:
        return OutOfRam(stage=_spoken(stage), **figures)
    name = _gpu_name(torch.device(error.stuck.target).index or 0, gpus)
    return OutOfGpuMemory(device=name, stage=_spoken(stage), **figures)


def _position(message: str, gpus: Sequence[int]) -> int | None:
    """The GPU that `message` is about, as torch numbers it; None where nobody tells which of several."""
    found = _GPU.search(message)
    if found is not None:
        return int(found.group(1))
    return 0 if len(gpus) == 1 else None


def _gpu_name(position: int | None, gpus: Sequence[int]) -> Value:
    """What the plan and every other program call the GPU that torch sees at `position`."""
    if position is None or (gpus and position >= len(gpus)):
        return Text("engine.a_gpu", "A GPU")
    return f"GPU {gpus[position] if gpus else position}"


def _free(position: int) -> int:
    """Bytes that the driver still has there; 0 where it does not tell, as after an error that stays."""
    try:
        return int(torch.cuda.mem_get_info(position)[0]) if torch.cuda.is_available() else 0
    except (RuntimeError, AssertionError, ValueError):
        return 0


def _out_of_ram(message: str, stage: str) -> OutOfRam:
    free = psutil.virtual_memory().available
    return OutOfRam(stage=_spoken(stage), needed_bytes=_wanted(message), free_bytes=free)


def _wanted(message: str) -> int:
    found = _TRIED.search(message)
    if not found:
        return 0
    if found.group(3):
        return int(found.group(3))
    return int(float(found.group(1)) * _UNITS[found.group(2)])
