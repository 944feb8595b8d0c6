"""LLaVA's prompts: what stands for a picture, what a draft leaves alone, what ends an answer."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from backends.engines.originals.llava.voice import check_words, voice
from backends.errors import ImageUnreadable, ModelDamaged
from backends.messages import ImagePart, Message, Role, TextPart
from backends.models.originals.types import Companions
from tests.support.original_llava import FIXTURES, Case, conversation, folders, recipe_of

FULL = folders("llava-v1.5-full")[0]
PICTURE = FIXTURES / "llava-v1.5-full/inputs/photo_90x61.png"
RECIPE = recipe_of(FULL)


def test_pictures_are_told_apart_by_their_content() -> None:
    prompt = voice(RECIPE, None).prompts.build(Case("llava-v1.5-full", "two_images").messages())
    first, second = prompt.spans
    placeholder = RECIPE.config["image_token_index"]
    assert {prompt.ids[i] for i in range(first.start, first.end)} == {placeholder}
    assert prompt.keys[first.start] == (placeholder, "photo_90x61.png")
    assert prompt.keys[second.start] == (placeholder, "tall_37x113.png")
    assert prompt.image_tokens == 32


def test_a_draft_changes_nothing_before_it() -> None:
    prompts = voice(RECIPE, None).prompts
    messages = Case("llava-v1.5-full", "two_images").messages()
    prompt, shared = prompts.settled(messages)
    assert shared >= prompt.spans[1].end
    asked = prompts.build(
        [*messages[:-1], Message(Role.USER, (*messages[-1].images, TextPart("Quite another?")))]
    )
    assert asked.keys[:shared] == prompt.keys[:shared]


def test_checkpoints_that_frame_pictures(tmp_path: Path) -> None:
    words = shutil.copytree(FULL, tmp_path / "words")
    (words / "added_tokens.json").write_text(
        json.dumps({"<im_start>": 480, "<im_end>": 481}), encoding="utf-8"
    )
    messages = conversation([{"role": "user", "content": "<image>\nWhy?"}], [PICTURE])
    framed = replace(RECIPE, tokenizer=words, pictures={**RECIPE.pictures, "mm_use_im_start_end": True})
    prompt = voice(framed, None).prompts.build(messages)
    (span,) = prompt.spans
    assert (prompt.ids[span.start - 1], prompt.ids[span.end]) == (480, 481)


@pytest.mark.parametrize(
    ("template", "stops"),
    [("v1", {2}), ("plain", {2, 13}), ("mistral_instruct", {2}), ("chatml_direct", {2})],
)
def test_what_ends_an_answer(template: str, stops: set[int]) -> None:
    assert voice(recipe_of(FULL, Companions(template=template)), None).stop_ids == stops


def test_a_picture_that_is_gone() -> None:
    message = Message(Role.USER, (ImagePart(FULL / "gone.png", "x", 4, 4), TextPart("Why?")))
    with pytest.raises(ImageUnreadable):
        voice(RECIPE, None).prompts.build([message])


def test_the_tokenizer_is_checked_without_a_model(tmp_path: Path) -> None:
    assert len(check_words(RECIPE)) == 480
    with pytest.raises(ModelDamaged, match="no tokenizer"):
        check_words(recipe_of(FULL, Companions(tokenizer=tmp_path)))
    with pytest.raises(ModelDamaged, match="464 tokens and the model 480"):
        check_words(
            recipe_of(
                FULL, Companions(tokenizer=folders("llava-v1.5-lora")[0].parent / "vicuna-7b-v1.5-tiny")
            )
        )
