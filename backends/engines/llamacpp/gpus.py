"""What llama.cpp is told of a plan's GPUs (see `placement.gguf` for what the map means)."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from backends.placement.types import Plan

_GPU = "cuda:"
# Modules by the names of GGUF files and of checkpoints.
_LAYER = re.compile(r"(?:.*\.)?(?:blk|layers)\.\d+")
# The last norm and the head, which stay together and count as one layer.
_HEAD = re.compile(r"(?:.*\.)?(?:output_norm|norm|output|lm_head)")
_PICTURES = re.compile(r"(?:.*\.)?(?:mmproj|vision_tower|vision_model|multi_modal_projector)")


@dataclass(frozen=True, slots=True)
class GpuShare:
    """`layers` of the last layers lie on GPUs, the head counted as one; `split` is how many on each GPU, in
    the order in which this process sees them. `pictures`: the picture part lies on the first of them.
    """

    layers: int = 0
    split: tuple[int, ...] = ()
    pictures: bool = False


def gpu_share(plan: Plan) -> GpuShare:
    """Read it from the map of `plan`."""
    placed = [
        (module, int(device.removeprefix(_GPU)))
        for module, device in plan.device_map
        if device.startswith(_GPU)
    ]
    counts = Counter(index for module, index in placed if _LAYER.fullmatch(module))
    counts.update({index for module, index in placed if _HEAD.fullmatch(module)})
    pictures = any(_PICTURES.fullmatch(module) for module, _ in placed)
    return GpuShare(counts.total(), tuple(counts[index] for index in plan.visible_gpus), pictures)
