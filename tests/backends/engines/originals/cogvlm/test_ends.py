"""Where a CogVLM's answers end: where the checkpoint says, else at its tokenizer's own end."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.engines.originals.cogvlm import voice
from backends.models.originals.types import Recipe
from tests.support.original_cogvlm import NAMES, loaded, recipe_of

ENDS = list(zip(NAMES, (2, 471), strict=True))


def unsaid(name: str, tmp_path: Path, **stated: Any) -> Recipe:
    """The fixture's recipe without an end, and a copy of its tokenizer whose settings are only `stated`."""
    recipe = recipe_of(name)
    assert recipe.tokenizer is not None
    place = tmp_path / "words"
    place.mkdir()
    for file in ("tokenizer.model", "tokenizer.json"):
        if (recipe.tokenizer / file).is_file():
            shutil.copy(recipe.tokenizer / file, place)
    for key, value in stated.items():
        (place / f"{key}.json").write_text(json.dumps(value), encoding="utf-8")
    return replace(recipe, config={**recipe.config, "eos_token_id": None}, tokenizer=place)


@pytest.mark.parametrize(("name", "end"), ENDS)
def test_the_checkpoint_says_it(name: str, end: int) -> None:
    assert voice(recipe_of(name), loaded(name)).stop_ids == {end}


@pytest.mark.parametrize(("name", "end"), ENDS)
def test_a_tokenizer_that_says_nothing_has_its_familys_end(name: str, end: int, tmp_path: Path) -> None:
    assert voice(unsaid(name, tmp_path), loaded(name)).stop_ids == {end}


@pytest.mark.parametrize(
    "stated",
    [
        {"tokenizer_config": {"eos_token": "<|eot_id|>"}},
        {"tokenizer_config": {"eos_token": {"content": "<|eot_id|>"}}},
        {"tokenizer_config": {"eos_token": None}, "special_tokens_map": {"eos_token": "<|eot_id|>"}},
    ],
)
def test_a_tokenizer_names_its_end(stated: dict[str, Any], tmp_path: Path) -> None:
    assert voice(unsaid(NAMES[1], tmp_path, **stated), loaded(NAMES[1])).stop_ids == {479}


@pytest.mark.parametrize("eos", ["no such word", 7, {"content": []}])
def test_a_name_that_is_no_word_is_passed_over(eos: object, tmp_path: Path) -> None:
    recipe = unsaid(NAMES[0], tmp_path, tokenizer_config={"eos_token": eos})
    assert voice(recipe, loaded(NAMES[0])).stop_ids == {2}


def test_a_tokenizers_file_alone_has_an_end_as_well(tmp_path: Path) -> None:
    recipe = unsaid(NAMES[0], tmp_path)
    assert recipe.tokenizer is not None
    alone = replace(recipe, tokenizer=recipe.tokenizer / "tokenizer.model")
    assert voice(alone, loaded(NAMES[0])).stop_ids == {2}
