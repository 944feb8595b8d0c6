"""Cuts a model into contiguous runs of whole modules, one run per device, in execution order.

Everything before the decoder layers goes to the first device, what follows them to the last; a tied head
is the embedding once more and stays with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from backends.models.types import Module, ModuleKind

_BEFORE = (ModuleKind.VISION, ModuleKind.PROJECTOR, ModuleKind.OTHER, ModuleKind.EMBED)


def counts_to_slots(modules: Sequence[Module], counts: Sequence[int], *, head: int, tied: bool) -> list[int]:
    """Turn layers per device into a device position per module; norm and head go to position `head`."""
    ends = list(accumulate(counts))
    slots: list[int] = []
    layer = 0
    for module in modules:
        if module.kind is ModuleKind.LAYER:
            slots.append(next(slot for slot, end in enumerate(ends) if layer < end))
            layer += 1
        elif module.kind in _BEFORE or (module.kind is ModuleKind.HEAD and tied):
            slots.append(0)
        else:
            slots.append(head)
    return slots


def balanced_counts(layer_bytes: int, layers: int, room: Sequence[int]) -> list[int]:
    """Layers per device in proportion to `room`, the bytes each has left for them.

    Boundaries are rounded on the running total, so that no device is more than one layer off its share.
    """
    capped = [max(0, left) for left in room]
    total = sum(capped)
    if total == 0 or layer_bytes <= 0:
        capped, total = [1] * len(room), len(room)
    ends = [round(layers * part / total) for part in accumulate(capped)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
