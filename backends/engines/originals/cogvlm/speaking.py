"""What talking with a CogVLM takes beside its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sentencepiece

from backends.engines.originals.cogvlm.pictures import CogVLMPictures
from backends.engines.originals.cogvlm.prompts import CogVLMPrompts
from backends.engines.originals.cogvlm.words import read_words
from backends.engines.originals.voice import Voice
from backends.models.checkpoint import read_json, read_json_if_there
from backends.models.originals.cogvlm import tokenizer_absent
from backends.models.originals.cogvlm_words import tokenizer_file
from backends.models.originals.types import Recipe

_MARKERS = 2  # stand around a picture's patches
_SAYING = ("tokenizer_config.json", "special_tokens_map.json")
# What Vicuna's and Llama 3's tokenizers call their ends, for folders that don't say it.
_ENDS = ("</s>", "<|end_of_text|>")


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
    stops = recipe.config["eos_token_id"] or _ends(recipe.tokenizer, recipe.config["vocab_size"])
    return Voice(words, prompts, frozenset(stops), sees=True)


def _ends(place: Path, rows: int) -> list[int]:
    """The end token of the tokenizer in the folder or file `place`, which the files beside it name.

    It can be read, as its words were. Nothing where there is none in a vocabulary of `rows`.
    """
    file = tokenizer_file(place)
    if file is None:
        return []
    named = [_named(file.parent / name) for name in _SAYING]
    names = [*(name for name in named if name is not None), *_ENDS]
    if file.suffix == ".model":
        words = sentencepiece.SentencePieceProcessor(model_file=str(file))
        known = {name: words.piece_to_id(name) for name in names}
        found = [token for token in known.values() if not words.is_unknown(token)]
        found += [words.eos_id()]
    else:
        known = _words(file)
        found = [known[name] for name in names if name in known]
    return [token for token in found if 0 <= token < rows][:1]


def _named(file: Path) -> str | None:
    """The end's text in a file of settings."""
    stated = read_json_if_there(file).get("eos_token")
    text = stated.get("content") if isinstance(stated, dict) else stated
    return text if isinstance(text, str) else None


def _words(file: Path) -> dict[str, int]:
    """The words of a tokenizer.json that stand outside of the others, by their texts."""
    added = read_json(file).get("added_tokens")
    entries = [entry for entry in added if isinstance(entry, dict)] if isinstance(added, list) else []
    return {
        entry["content"]: entry["id"]
        for entry in entries
        if isinstance(entry.get("content"), str) and isinstance(entry.get("id"), int)
    }
