"""Environment variables of the child process: privacy, threads and which GPUs it may see."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

import psutil

from backends.hardware.cpu import leaving_room, usable_cores
from backends.placement.types import Plan
from backends.settings import LEAVE_ROOM, Settings

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
# Where the engine for GGUF files keeps repaired copies of these.
CONVERTED = "SNUG_CONVERTED"

# The driver's answer to any call before cuInit (CUDA driver API, CUresult).
_CUDA_ERROR_NOT_INITIALIZED = 3

_PRIVATE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUTF8": "1",
}

# The driver's (PCI) numbers, and a check for GPUs that asks NVML: CUDA's own check would fix the set of
# visible GPUs at import time, before a plan has chosen them.
_GPU = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}

# How long a thread that has finished its share of a matrix spins before it sleeps. The defaults (about a
# millisecond in GCC's OpenMP, 200 in Intel's and LLVM's) take the processor from the very thread that is
# waited for as soon as other programs are busy: a first token then takes ten times as long.
THREADS = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}


def child_environment(settings: Settings, engine: str = "") -> dict[str, str]:
    """What every child process gets before it imports anything; `engine` is what it will run, if one.

    It takes this over with `hardware.threads.enter`, by which inherited numbers of threads end.
    """
    return {**_PRIVATE, **_GPU, **THREADS, **_threads(settings, engine), CONVERTED: str(settings.converted)}


def _threads(settings: Settings, engine: str) -> dict[str, str]:
    """How many threads compute, where a setting says so, and whether other programs go first.

    llama.cpp's engine counts by itself: it knows fast cores from others.
    """
    count = settings.threads
    if count is None and settings.leave_room and engine not in ("", "llamacpp"):
        count = leaving_room(usable_cores(psutil.cpu_count(logical=False) or psutil.cpu_count() or 1))
    way = {LEAVE_ROOM: "1"} if settings.leave_room and engine else {}
    if count is None:
        return way
    return way | {"OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count)}


def visible_gpus(plan: Plan) -> str:
    """The value of `CUDA_VISIBLE_DEVICES` for `plan`; "-1" hides all (Windows drops empty variables)."""
    return ",".join(str(index) for index in plan.visible_gpus) or "-1"


def show_gpus(plan: Plan, *, driver_started: Callable[[], bool] | None = None) -> bool:
    """Make exactly the plan's GPUs visible to this process; False when it is too late for that.

    CUDA reads the variable once, in cuInit, and importing torch does not call that (`torch.cuda` is lazy;
    its `device_count` re-reads the variable until then). So a process that has imported everything
    already can still serve any plan, unless some library touched the driver on import.
    """
    wanted = visible_gpus(plan)
    if os.environ.get(VISIBLE_GPUS) == wanted:
        return True
    if (driver_started or cuda_started)():
        return False
    os.environ[VISIBLE_GPUS] = wanted
    return True


def cuda_started() -> bool:
    """Whether the CUDA driver was initialised in this process (then its set of GPUs is fixed)."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        answer = int(driver.cuDeviceGetCount(ctypes.byref(count)))
    except (OSError, AttributeError):
        return False
    return answer != _CUDA_ERROR_NOT_INITIALIZED
