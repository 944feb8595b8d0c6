"""Which GPUs to use first: free before busy, peers before strangers, the display's last."""

from __future__ import annotations

from collections.abc import Mapping

from backends.hardware.types import Gpu, GpuProcess
from backends.placement.budget import GIB
from backends.placement.types import Credit

# A desktop's windows take a few hundred MiB; someone who computes takes more.
_HELD_BYTES = GIB
_HELD_SHARE = 0.2
_UTILIZATION = 50


def held_by_others(gpu: Gpu, credit: Credit) -> int:
    """Bytes of `gpu` that other programs hold, as far as it can be told."""
    ours = dict(credit.gpu_bytes).get(gpu.index, 0)
    return max(0, gpu.total_bytes - gpu.free_bytes - ours)


def is_busy(gpu: Gpu, credit: Credit) -> bool:
    """Whether somebody else computes on `gpu`."""
    held = held_by_others(gpu, credit)
    ours_runs = any(process.ours for process in gpu.processes)
    computing = (gpu.utilization or 0) >= _UTILIZATION and not ours_runs
    return held > max(_HELD_BYTES, int(gpu.total_bytes * _HELD_SHARE)) or computing


def culprit(gpu: Gpu) -> GpuProcess | None:
    """The other process that holds most of `gpu`, when the driver tells."""
    others = [process for process in gpu.processes if not process.ours]
    return max(others, key=lambda process: (process.bytes, -process.pid), default=None)


def ranked(gpus: tuple[Gpu, ...], budgets: Mapping[int, int], credit: Credit) -> tuple[Gpu, ...]:
    """Best GPU first: not busy, not the display's, most free, lowest index."""
    return tuple(
        sorted(gpus, key=lambda gpu: (is_busy(gpu, credit), gpu.display, -budgets[gpu.index], gpu.index))
    )


def order_for_split(gpus: tuple[Gpu, ...], budgets: Mapping[int, int], credit: Credit) -> tuple[Gpu, ...]:
    """The ranked GPUs with the best one's NVLink peers directly behind it."""
    best = ranked(gpus, budgets, credit)
    if len(best) < 3:
        return best
    first, rest = best[0], best[1:]

    def key(item: tuple[int, Gpu]) -> tuple[bool, bool, int]:
        rank, gpu = item
        return is_busy(gpu, credit), gpu.index not in first.nvlink_peers, rank

    return (first, *(gpu for _, gpu in sorted(enumerate(rest), key=key)))
