"""How closely a model looks at a picture: the tokens that one may take, as the pixels of its processor."""

from __future__ import annotations

from typing import Any


def limit_detail(processor: Any, image_tokens: int | None) -> None:
    """Let a picture take at most `image_tokens`, where the processor scales pictures to their pixels.

    A later limit takes the place of an earlier one; None gives the processor its own back.

    Families like Qwen-VL turn every `merge_size` x `merge_size` patches into one token and scale a picture
    until it has at most `size["longest_edge"]` pixels (they call it an edge). Other families are left alone.
    """
    images = getattr(processor, "image_processor", None)
    patch, merge = getattr(images, "patch_size", None), getattr(images, "merge_size", None)
    if images is None or not isinstance(patch, int) or not isinstance(merge, int):
        return
    # Kept with the processor that it belongs to: its first limit would hide it.
    images.size = vars(images).setdefault("snug_own_size", images.size)
    if image_tokens is None:
        return
    size = dict(images.size)
    usual, limit = size.get("longest_edge"), image_tokens * (patch * merge) ** 2
    if usual is not None and limit < usual:
        images.size = {**size, "longest_edge": limit, "shortest_edge": min(size["shortest_edge"], limit)}
