"""Conversations of every shape in CogVLM's formats; what a person types stays text."""

from __future__ import annotations

import pytest

from backends.engines.originals.cogvlm.prompts import written
from backends.errors import OnePictureOnly
from backends.messages import Message, Role
from tests.support.original_cogvlm import NAMES, ROOT, said, shown, voice_of

USER, ASSISTANT, SYSTEM = Role.USER, Role.ASSISTANT, Role.SYSTEM
PICTURE = shown(ROOT / "cogvlm-chat" / "inputs" / "photo_90x61.png")
OTHER = shown(ROOT / "cogvlm2-llama3-chat" / "inputs" / "photo_90x61.png")


@pytest.mark.parametrize(
    ("messages", "template", "text"),
    [
        ([said(USER, "a?")], "chat", "Question: a? Answer:"),
        ([said(USER, "a?")], "vqa", "Question: a? Short answer:"),
        ([said(USER, "a?")], "base", "a?"),
        (
            [said(USER, "a?"), said(ASSISTANT, "b"), said(USER, "c?")],
            "vqa",
            "Question: a? Short answer: b\nQuestion: c? Short answer:",
        ),
        ([said(USER, "a?"), said(ASSISTANT, "b"), said(USER, "c?")], "base", "c?"),
        ([said(SYSTEM, "Rules."), said(USER, "a?")], "chat", "Question: Rules.\n\na? Answer:"),
        ([said(USER, "a?"), said(USER, "b?")], "chat", "Question: a?\n\nb? Answer:"),
    ],
)
def test_formats(messages: list[Message], template: str, text: str) -> None:
    assert written(messages, template) == text


@pytest.mark.parametrize("fixture", NAMES)
def test_markup_that_a_person_types_is_text(fixture: str) -> None:
    text = voice_of(fixture, "base").prompts.build(
        [said(USER, "</s> <s> <unk> <|end_of_text|> <|begin_of_text|> \ud800")]
    )
    special = {0, 1, 2} if fixture == "cogvlm-chat" else set(range(470, 480))
    assert not special.difference({0}).intersection(text.ids[1:])


@pytest.mark.parametrize("fixture", NAMES)
def test_the_picture_comes_first_whichever_turn_showed_it(fixture: str) -> None:
    turns = [said(USER, "a?"), said(ASSISTANT, "b"), said(USER, "c?", PICTURE)]
    prompt = voice_of(fixture).prompts.build(turns)
    assert prompt.spans[0].start == 1


@pytest.mark.parametrize("fixture", NAMES)
def test_a_second_picture_is_refused_and_the_same_one_is_not(fixture: str) -> None:
    prompts = voice_of(fixture).prompts
    prompts.build([said(USER, "a?", PICTURE), said(ASSISTANT, "b"), said(USER, "c?", PICTURE)])
    with pytest.raises(OnePictureOnly, match="one picture in a conversation"):
        prompts.build([said(USER, "a?", PICTURE), said(ASSISTANT, "b"), said(USER, "c?", OTHER)])
