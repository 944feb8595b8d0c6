"""Which module talks with which layout. Each is imported when its layout is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backends.engines.originals.voice import Voice
from backends.models.originals.types import Recipe


@dataclass(frozen=True, slots=True)
class Configured:
    """As much of a model as voices need before it is there."""

    config: Any


def voice_of(recipe: Recipe, config: Any) -> Voice | None:
    """The voice of `recipe`'s layout; None for today's layout, which brings a chat template.

    `config` is the native config object.

    Raises ModelDamaged or ModelUnsupported where the tokenizer is not there, or another model's.
    """
    match recipe.layout:
        case "llava":
            from backends.engines.originals.llava.voice import voice

            return voice(recipe, Configured(config))
        case "cogvlm":
            from backends.engines.originals.cogvlm.speaking import voice as cogvlm_voice

            return cogvlm_voice(recipe, Configured(config))
        case "chatglm":
            from backends.engines.originals.chatglm.speaking import voice as chatglm_voice

            return chatglm_voice(recipe, Configured(config))
        case _:
            return None
