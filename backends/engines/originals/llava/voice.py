"""What the engine needs to talk with an original LLaVA checkpoint."""

from __future__ import annotations

from typing import Any

from backends.engines.originals.llava.pictures import LlavaPictures
from backends.engines.originals.llava.prompts import LlavaPrompts
from backends.engines.originals.llava.tokenizer import Words, open_tokenizer
from backends.engines.originals.voice import Voice
from backends.engines.pictures import PictureReader
from backends.models.originals.templates import Template, template_named
from backends.models.originals.types import Recipe


def check_words(recipe: Recipe) -> Words:
    """The recipe's tokenizer. Raises ModelDamaged when it is absent, unreadable or another model's.

    Takes no model, so that it can be asked before weights are read.
    """
    return open_tokenizer(recipe.tokenizer or recipe.folder, recipe.config["text_config"]["vocab_size"])


def voice(recipe: Recipe, model: Any) -> Voice:  # noqa: ARG001 - the signature of every layout
    """How to talk with the model of `recipe`. Raises ModelDamaged as `check_words`."""
    words = check_words(recipe)
    template = template_named(recipe.template)
    placeholder = recipe.config["image_token_index"]
    reader = PictureReader(LlavaPictures(recipe.pictures, recipe.config), "", placeholder, beneath=True)
    framed = recipe.pictures.get("mm_use_im_start_end") is True
    prompts = LlavaPrompts(template, words, reader, framed=framed)
    return Voice(words, prompts, _stops(recipe, words, template), sees=True)


def _stops(recipe: Recipe, words: Words, template: Template) -> frozenset[int]:
    """The tokenizer's end, the config's, and what the format writes after an answer if that is one token."""
    stated = recipe.config["text_config"].get("eos_token_id")
    ends = {id_ for id_ in (stated if isinstance(stated, list) else [stated]) if isinstance(id_, int)}
    ends |= {words.eos_token_id} | (words.single(template.stop) if template.stop else set())
    return frozenset(id_ for id_ in ends if id_ >= 0)
