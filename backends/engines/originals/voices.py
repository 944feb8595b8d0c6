"""Which module talks with which layout."""

from __future__ import annotations

from typing import Any

from backends.engines.originals import chatglm, cogvlm, llava
from backends.engines.originals.voice import Voice
from backends.models.originals.types import Recipe


def voice_of(recipe: Recipe, model: Any) -> Voice | None:
    """The voice of `recipe`'s layout; None for today's layout, which brings a chat template."""
    match recipe.layout:
        case "llava":
            return llava.voice(recipe, model)
        case "cogvlm":
            return cogvlm.voice(recipe, model)
        case "chatglm":
            return chatglm.voice(recipe, model)
        case _:
            return None
