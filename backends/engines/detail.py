"""How closely a model looks at a picture: the tokens that one may take, as the pixels of its processor."""

from __future__ import annotations

import sys
from inspect import signature
from typing import Any

# One stands before every picture and one behind it; a plan counts them in.
_MARKERS = 2


def limit_detail(processor: Any, image_tokens: int) -> None:
    """Let a picture take at most `image_tokens`, where the processor scales pictures to their pixels.

    This is what makes a plan's figure hold: its memory is counted for so many tokens. Families like Qwen-VL
    turn every `merge_size` x `merge_size` patches into one token and scale a picture until it has at most
    `size["longest_edge"]` pixels (they call it an edge). Other families are left alone: their plans count
    what the largest picture takes. 0 stands for a plan without pictures and limits nothing. A later limit
    takes the place of an earlier one: a loaded model may be given another.
    """
    images = getattr(processor, "image_processor", None)
    patch, merge = getattr(images, "patch_size", None), getattr(images, "merge_size", None)
    if images is None or not isinstance(patch, int) or not isinstance(merge, int):
        return
    # Kept with the processor that it belongs to: its first limit would hide it.
    images.size = vars(images).setdefault("snug_own_size", images.size)
    if image_tokens == 0:
        return
    size = dict(images.size)
    tokens = max(1, image_tokens - _MARKERS)
    usual, limit = size.get("longest_edge"), tokens * (patch * merge) ** 2 * _frames(images)
    if usual is not None and limit < usual:
        # Small pictures are enlarged to `shortest_edge` pixels, rounded up: half leaves room for that.
        images.size = {**size, "longest_edge": limit, "shortest_edge": min(size["shortest_edge"], limit // 2)}


def _frames(images: Any) -> int:
    """How many times the processor counts a picture's pixels: GLM-4V's takes it for a film of two frames."""
    resize = getattr(sys.modules[type(images).__module__], "smart_resize", None)
    if resize is None or "num_frames" not in signature(resize).parameters:
        return 1
    return int(getattr(images, "temporal_patch_size", 1))
