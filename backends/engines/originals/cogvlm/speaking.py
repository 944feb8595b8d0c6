"""What talking with a CogVLM takes beside its weights."""

from __future__ import annotations

from typing import Any

from backends.engines.originals.cogvlm.pictures import CogVLMPictures
from backends.engines.originals.cogvlm.prompts import CogVLMPrompts
from backends.engines.originals.cogvlm.words import read_words
from backends.engines.originals.voice import Voice
from backends.models.checkpoint import read_json_if_there
from backends.models.originals.cogvlm import tokenizer_absent
from backends.models.originals.types import Recipe

_MARKERS = 2  # stand around a picture's patches


def voice(recipe: Recipe, model: Any) -> Voice:
    """Words, prompts and stop tokens of `recipe`; `model` is the loaded one, or anything with its config.

    Raises ModelUnsupported (no tokenizer anywhere) or ModelDamaged (one that can't be read).
    """
    if recipe.tokenizer is None:
        raise tokenizer_absent(recipe)
    config = model.config
    words = read_words(recipe.tokenizer)
    tower = config.vision_config
    side = tower.image_size // tower.patch_size // config.spatial_merge_size
    pictures = CogVLMPictures(tower.image_size, side**2 + _MARKERS, config.image_token_id)
    prompts = CogVLMPrompts(words, pictures, recipe.template, config.bos_token_id)
    return Voice(words, prompts, _stop_ids(recipe), sees=True)


def _stop_ids(recipe: Recipe) -> frozenset[int]:
    """What the checkpoint itself says: its generation_config.json, else its config.json."""
    generation = read_json_if_there(recipe.folder / "generation_config.json")
    stated = generation.get("eos_token_id", recipe.config.get("eos_token_id"))
    found = stated if isinstance(stated, list) else [stated]
    return frozenset(token for token in found if isinstance(token, int))
