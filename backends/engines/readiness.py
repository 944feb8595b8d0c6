"""A last look at the machine before a plan is carried out: its GPUs and its free memory may have changed."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import torch

from backends.engines.devices import runtime_device
from backends.engines.stages import LOADING
from backends.errors import GpuGone, OutOfGpuMemory, OutOfRam
from backends.placement.moving import GPU_MARGIN_BYTES, RAM_MARGIN_BYTES
from backends.placement.types import DeviceShare, Plan


def check_gpus(plan: Plan, visible_gpus: tuple[int, ...], count: Callable[[], int] | None = None) -> None:
    """Raise GpuGone when a GPU of the plan is not among those that torch sees now."""
    wanted = sorted({device for _, device in plan.device_map if device.startswith("cuda:")})
    if not wanted:
        return
    present = (count or gpu_count)()
    for device in wanted:
        position = int(runtime_device(device, visible_gpus).removeprefix("cuda:"))
        if position >= present:
            raise GpuGone(device=f"GPU {device.removeprefix('cuda:')}", count=present)


def check_memory(plan: Plan, free: Callable[[str], int] | None = None) -> None:
    """Raise OutOfRam or OutOfGpuMemory when a device has less free now than the plan will take there.

    What the plan counts as overhead is left out: this process and the drivers hold most of it already. The
    margin that the plan kept free makes room for small changes.
    """
    tell = free or free_bytes
    for share in plan.devices:
        if share.device == "disk":
            continue
        needed = _needed(plan, share)
        found = tell(runtime_device(share.device, plan.visible_gpus))
        if needed <= found:
            continue
        if share.device == "cpu":
            raise OutOfRam(stage=LOADING, needed_bytes=needed, free_bytes=found)
        device = f"GPU {share.device.removeprefix('cuda:')}"
        raise OutOfGpuMemory(device=device, stage=LOADING, needed_bytes=needed, free_bytes=found)


def _needed(plan: Plan, share: DeviceShare) -> int:
    total = share.total_bytes
    if share.device == "cpu":
        total = max(total, plan.load_peak_ram_bytes)
    return max(0, total - share.overhead_bytes)


def gpu_count() -> int:
    """How many GPUs torch sees; 0 when the driver does not answer."""
    try:
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    except (RuntimeError, AssertionError):
        return 0


def free_bytes(device: str) -> int:
    """Bytes that a new tensor on `device` (as torch numbers it) may take now."""
    if not device.startswith("cuda"):
        return int(psutil.virtual_memory().available)
    free, _ = torch.cuda.mem_get_info(torch.device(device))
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + unused)


def room(device: str) -> int:
    """Bytes that may be moved to `device` now."""
    margin = GPU_MARGIN_BYTES if device.startswith("cuda") else RAM_MARGIN_BYTES
    return max(0, free_bytes(device) - margin)
