"""Turn exceptions of torch, transformers and the system into the errors that a person can act on."""

from __future__ import annotations

import errno
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from safetensors import SafetensorError

from backends.errors import (
    DeviceMapInvalid,
    DiskFull,
    FolderReadOnly,
    GpuGone,
    InternalError,
    ModelDamaged,
    ModelUnsupported,
    OutOfGpuMemory,
    OutOfRam,
    PackageMissing,
    SnugError,
)
from backends.text import Text, Value

_log = logging.getLogger(__name__)
_STAGES: dict[str, Text] = {
    "answering": Text("worker.stage.answering", "answering"),
    "moving the model": Text("engine.moving", "moving the model"),
    "loading the model": Text("worker.stage.loading", "loading the model"),
    "reading ahead": Text("engine.reading_ahead", "reading ahead"),
}
_LOGS = Text("engine.logs", "the logs folder")
_WEIGHTS = Text("engine.weights", "the .safetensors files")
_CONFIG_AND_WEIGHTS = Text("model.all_files", "config.json and the .safetensors files")
_TRIED = re.compile(r"Tried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)|allocate (\d+) bytes")
_GPU = re.compile(r"GPU (\d+)")
_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_CPU_ALLOCATION = ("DefaultCPUAllocator", "not enough memory", "Cannot allocate memory", "bad alloc")
_NO_GPU = (
    *("invalid device ordinal", "no CUDA-capable device", "not compiled with CUDA", "no NVIDIA driver"),
    *("GPU is lost", "has fallen off the bus", "No CUDA GPUs are available"),
)
_PAGE_FILE_TOO_SMALL = 1455  # ERROR_COMMITMENT_LIMIT: RAM and page file of Windows are used up


@contextmanager
def as_snug_errors(stage: str, model_path: str = "", writes_to: str | None = None) -> Iterator[None]:
    """Re-raise anything from upstream as a `SnugError`; `stage` reads like "answering"."""
    try:
        yield
    except (SnugError, GeneratorExit, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        _log.exception("while %s", stage)
        raise translate(error, stage, model_path, writes_to) from error


def translate(
    error: BaseException, stage: str, model_path: str = "", writes_to: str | None = None
) -> SnugError:
    """Find the error of Snug that tells what `error` means."""
    message = str(error)
    if found := _gpu(error, message, stage):
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
    if isinstance(error, (ValueError, KeyError, TypeError, AttributeError)):
        return ModelUnsupported(
            path=model_path,
            detail=Text(
                "engine.unknown",
                "The installed transformers library does not know this kind of model or its files.",
            ),
            suggestion=USE_LLAVA,
        )
    return _internal(error, "loading the model")


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


def _gpu(error: BaseException, message: str, stage: str) -> SnugError | None:
    if isinstance(error, torch.OutOfMemoryError):
        return _out_of_gpu_memory(message, stage)
    if isinstance(error, RuntimeError | AssertionError) and any(mark in message for mark in _NO_GPU):
        return _gpu_gone(message)
    return None


def _gpu_gone(message: str) -> GpuGone:
    found = _GPU.search(message)
    device = Text("engine.a_gpu", "A GPU") if found is None else f"GPU {found.group(1)}"
    try:
        count = torch.cuda.device_count()
    except (RuntimeError, AssertionError):
        count = 0
    return GpuGone(device=device, count=count)


def _out_of_gpu_memory(message: str, stage: str) -> OutOfGpuMemory:
    found = _GPU.search(message)
    index = int(found.group(1)) if found else 0
    free = torch.cuda.mem_get_info(index)[0] if torch.cuda.is_available() else 0
    return OutOfGpuMemory(
        device=f"GPU {index}", stage=_spoken(stage), needed_bytes=_wanted(message), free_bytes=free
    )


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
