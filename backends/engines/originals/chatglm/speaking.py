"""What talking with ChatGLM3 takes beside its weights."""

from __future__ import annotations

from typing import Any

from backends.engines.originals.chatglm.prompts import ChatGLMPrompts
from backends.engines.originals.chatglm.words import read_words
from backends.engines.originals.voice import Voice
from backends.errors import ModelDamaged
from backends.models.originals.chatglm import END, STOPS, WORDS
from backends.models.originals.types import Recipe
from backends.text import Text


def voice(recipe: Recipe, model: Any) -> Voice:  # noqa: ARG001 - every layout's signature
    """Words, prompts and stop tokens of `recipe`. Raises ModelDamaged without a readable tokenizer."""
    if recipe.tokenizer is None:
        detail = Text.of("checkpoint.missing", "{file} is missing.", file=WORDS)
        raise ModelDamaged(path=str(recipe.folder), detail=detail, file=WORDS)
    words = read_words(recipe.tokenizer)
    stops = frozenset({END, *(words.special(name) for name in STOPS)})
    return Voice(words, ChatGLMPrompts(words), stops, sees=False)
