"""Which module talks with which layout. Each is imported when its layout is loaded."""

from __future__ import annotations

from typing import Any

from backends.engines.originals.voice import Voice
from backends.models.originals.types import Recipe


def voice_of(recipe: Recipe, model: Any) -> Voice | None:
    """The voice of `recipe`'s layout; None for today's layout, which brings a chat template.

    Raises ModelDamaged or ModelUnsupported where the tokenizer is not there, or another model's.
    """
    match recipe.layout:
        case "llava":
            from backends.engines.originals import llava

            return llava.voice(recipe, model)
        case "cogvlm":
            from backends.engines.originals import cogvlm

            return cogvlm.voice(recipe, model)
        case "chatglm":
            from backends.engines.originals import chatglm

            return chatglm.voice(recipe, model)
        case _:
            return None
