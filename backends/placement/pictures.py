"""Which families look at pictures one after the other, and how many pictures of a chat a plan allows. Pure.

The engine and the memory model share this: what is encoded piece by piece needs its vision part's memory
once, whatever the number of pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

from backends.errors import PicturesExceeded
from backends.messages import Message
from backends.placement.types import Plan

# Families whose pixels are one row a tile; a row is encoded by itself.
_TILE_BY_TILE = frozenset(
    {
        *("aya_vision", "cohere2_vision", "gemma3", "idefics2", "idefics3", "internvl", "llava"),
        *("paligemma", "qianfan_ocr", "smolvlm", "vipllava"),
    }
)
# Families whose pixels are one row a picture with its tiles, or as many patches as the picture has.
_PICTURE_BY_PICTURE = frozenset(
    {
        *("glm46v", "glm4v", "glm4v_moe", "llava_next", "llava_onevision", "qwen2_5_vl", "qwen2_vl"),
        *("paddleocr_vl", "qwen3_5", "qwen3_5_moe", "qwen3_vl", "qwen3_vl_moe"),
    }
)

# Families that were made for one picture a conversation: their prompts refuse a second.
ONE_PICTURE = frozenset({"cogvlm"})


def encoded_alone(family: str) -> bool:
    """Whether the engine encodes the pictures of a prompt one after the other.

    Those families, each compared with itself by a test, give the same features either way. Others mix
    pictures (Mllama's layers look at all of them), pad each to the largest (Pixtral), or were not compared.
    """
    return family in _TILE_BY_TILE or family in _PICTURE_BY_PICTURE


def tiles_at_once(family: str, tiles: int) -> int:
    """How many of a picture's `tiles` one pass of the vision part takes; prompts are read as a whole."""
    return 1 if family in _TILE_BY_TILE else tiles


def most_pictures(plan: Plan) -> int | None:
    """The most pictures that a chat may hold under `plan`; None: memory sets no limit below the context's."""
    if plan.images and plan.family in ONE_PICTURE:
        return None
    # llama.cpp encodes pictures one after the other, whatever the family.
    alone = plan.engine == "llamacpp" or encoded_alone(plan.family)
    return None if plan.images and alone else plan.images


def check_number(plan: Plan, messages: Sequence[Message]) -> None:
    """Hold a chat to the planned pictures. Raises PicturesExceeded."""
    most, pictures = most_pictures(plan), sum(len(message.images) for message in messages)
    if most is not None and pictures > most:
        raise PicturesExceeded(pictures=pictures, planned=most)


def families() -> tuple[str, ...]:
    """Every family that is encoded piece by piece."""
    return tuple(sorted(_TILE_BY_TILE | _PICTURE_BY_PICTURE))
