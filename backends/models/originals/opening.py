"""Finds out in which layout a folder is, and reads its recipe."""

from __future__ import annotations

from pathlib import Path

from backends.errors import ModelDamaged
from backends.models.adapter import Finder, is_adapter
from backends.models.checkpoint import read_json_if_there
from backends.models.originals.chatglm import chatglm_recipe
from backends.models.originals.cogvlm import cogvlm_recipe, tokenizer_absent
from backends.models.originals.llava import llava_recipe
from backends.models.originals.llava_limits import is_llava
from backends.models.originals.lora import native_lora_recipe
from backends.models.originals.native import native_recipe
from backends.models.originals.recognise import original_family
from backends.models.originals.types import Companions, Recipe
from backends.text import Text

_NONE = Companions()


def _nowhere(_: str) -> None:
    """Look in no other place."""


def open_recipe(folder: Path, companions: Companions = _NONE, finder: Finder = _nowhere) -> Recipe | None:
    """How the checkpoint in `folder` becomes a native model; None where it is one as it stands.

    `companions` are what a person named; what they left out is looked for where the checkpoint says, beside
    it, and by `finder`. Raises ModelNotFound, ModelDamaged or ModelUnsupported.
    """
    config = read_json_if_there(folder / "config.json")
    if is_llava(config, folder):
        return llava_recipe(folder, config, companions, finder)
    if is_adapter(folder):
        return native_lora_recipe(folder, companions, finder)
    match original_family(config):
        case "cogvlm":
            return cogvlm_recipe(folder, config, companions, finder)
        case "chatglm":
            return chatglm_recipe(folder, config, companions, finder)
        case _:
            return native_recipe(folder, config)


def check_tokenizer(recipe: Recipe) -> None:
    """Refuse to load without a tokenizer what could be planned without one.

    Raises ModelDamaged for files that the checkpoint should have, ModelUnsupported where it ships none.
    """
    if recipe.layout == "native" or recipe.companions.tokenizer is not None or _has_words(recipe.tokenizer):
        return
    if recipe.layout == "cogvlm":
        raise tokenizer_absent(recipe)
    detail = Text("engine.no_tokenizer", "The folder holds no tokenizer, which turns words into tokens.")
    raise ModelDamaged(path=str(recipe.folder), file="tokenizer.model", detail=detail)


def _has_words(folder: Path | None) -> bool:
    return folder is not None and any(
        (folder / name).is_file() for name in ("tokenizer.model", "tokenizer.json")
    )
