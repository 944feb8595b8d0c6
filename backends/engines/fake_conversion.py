"""What the fake engine does before a load whose plan converts: the stages of a conversion, and its failures.

Words in the model's path command it: `slow-conversion` (two seconds), `stuck-conversion` (stays at half until
it is cancelled), `full-disk-conversion`, `unwritable-conversion`, `unfit-conversion`, `crash-conversion`.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event as Flag

from backends.engines.base import ProgressSink
from backends.errors import Cancelled, DiskFull, FolderReadOnly, ModelUnsupported
from backends.messages import Progress
from backends.placement.types import Plan

CRASH_EXIT_CODE = 71
_STEPS, _SLOW_S = 20, 0.1


def convert(plan: Plan, progress: ProgressSink, cancel: Flag) -> None:
    """Count the source's bytes in twenty steps, unless everything is there. Raises what the path says."""
    if plan.conversion is None or plan.conversion.ready:
        return
    name, total = Path(plan.model_path).name, max(plan.conversion.source_bytes, _STEPS)
    progress(Progress("comparing", 0, 1))
    for step in range(_STEPS + 1):
        if "slow-conversion" in name:
            cancel.wait(_SLOW_S)
        progress(Progress("converting", total * step // _STEPS, total))
        if step == _STEPS // 2:
            if "stuck-conversion" in name:
                cancel.wait()
            _fail(name, plan, total)
        if cancel.is_set():
            raise Cancelled


def _fail(name: str, plan: Plan, total: int) -> None:
    cache = plan.conversion.cache if plan.conversion is not None else ""
    if "crash-conversion" in name:
        os._exit(CRASH_EXIT_CODE)
    if "full-disk-conversion" in name:
        raise DiskFull(needed_bytes=total, path=cache, free_bytes=total // 3)
    if "unwritable-conversion" in name:
        raise FolderReadOnly(path=cache, detail="The system says: Read-only file system.")
    if "unfit-conversion" in name:
        raise ModelUnsupported(
            path=plan.model_path,
            detail="It can't be converted: its tokenizer is of a kind that can't be written.",
            suggestion="Choose another engine.",
        )
