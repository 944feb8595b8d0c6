"""The text that LLaVA's formats make of a conversation."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.engines.originals.llava.conversation import written
from backends.engines.originals.llava.tokenizer import Markup
from backends.messages import ImagePart, Message, Part, Role, TextPart
from backends.models.originals.templates import TEMPLATES, template_named

PICTURE = ImagePart(Path("a.png"), "a", 1, 1)
OTHER = ImagePart(Path("b.png"), "b", 1, 1)
POLITE = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the human's questions."
)


def turn(role: str, *parts: Part | str) -> Message:
    return Message(Role(role), tuple(TextPart(part) if isinstance(part, str) else part for part in parts))


def text_of(template: str, *messages: Message) -> str:
    """The prompt's text, pictures as <a> and <b>."""
    return "".join(
        f"<{piece.sha256}>"
        if isinstance(piece, ImagePart)
        else piece.text
        if isinstance(piece, Markup)
        else piece
        for piece in written(template_named(template), messages)
    )


CHAT = (turn("user", PICTURE, "Why?"), turn("assistant", "So."), turn("user", "And now?"))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("v1", f"{POLITE} USER: <a>\nWhy? ASSISTANT: So.</s>USER: And now? ASSISTANT:"),
        ("v0", f"{POLITE}###Human: <a>\nWhy?###Assistant: So.###Human: And now?###Assistant:"),
        ("mistral_instruct", "[INST] <a>\nWhy? [/INST] So. </s>[INST] And now? [/INST]"),
        (
            "llava_llama_2",
            "[INST] <<SYS>>\nYou are a helpful language and vision assistant. You are able to understand the visual "
            "content that the user provides, and assist the user with a variety of tasks using natural language.\n"
            "<</SYS>>\n\n<a>\nWhy? [/INST] So. </s><s>[INST] And now? [/INST]",
        ),
        (
            "chatml_direct",
            "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n<a>\nWhy?<|im_end|>"
            "<|im_start|>assistant\nSo.<|im_end|><|im_start|>user\nAnd now?<|im_end|><|im_start|>assistant\n",
        ),
        ("plain", "<a>\nWhy?\nSo.\nAnd now?\n"),
    ],
)
def test_formats(template: str, expected: str) -> None:
    assert text_of(template, *CHAT) == expected


@pytest.mark.parametrize("template", [template.name for template in TEMPLATES])
def test_a_system_message_replaces_the_formats_own_sentence(template: str) -> None:
    own = template_named(template).system
    text = text_of(template, turn("system", "Rhyme."), turn("user", "Hi"))
    assert text.count("Rhyme.") == 1
    assert not own or own not in text
    blank = text_of(template, turn("system", " "), turn("user", "Hi"))
    assert blank == text_of(template, turn("user", "Hi"))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param((PICTURE, "Why?"), "<a>\nWhy?", id="a picture goes on a line of its own"),
        pytest.param((PICTURE, "\nWhy?"), "<a>\nWhy?", id="which the person may have written"),
        pytest.param((PICTURE,), "<a>\n", id="no question"),
        pytest.param((PICTURE, OTHER, "Why?"), "<a>\n<b>\nWhy?", id="two pictures"),
        pytest.param((PICTURE, OTHER, "\nWhy?"), "<a><b>\nWhy?", id="two pictures as they were written"),
        pytest.param(("Look:", PICTURE, "Why?"), "Look:\n<a>\nWhy?", id="within a text"),
        pytest.param(
            ("Of ", PICTURE, " and ", OTHER, ", which?"), "Of <a> and <b>, which?", id="within a sentence"
        ),
        pytest.param((PICTURE, "<image>\nWhy?"), "<a>\nWhy?", id="the text says where"),
        pytest.param(
            (PICTURE, OTHER, "Of <image> and <image>?"), "Of <a> and <b>?", id="the text says where for both"
        ),
        pytest.param(
            (PICTURE, "What is <image> in HTML? <image>?"),
            "<a>\nWhat is <image> in HTML? <image>?",
            id="a word",
        ),
        pytest.param(("What is <image>?",), "What is <image>?", id="a word without a picture"),
    ],
)
def test_places_of_pictures(parts: tuple[Part | str, ...], expected: str) -> None:
    assert text_of("mistral_instruct", turn("user", *parts)) == f"[INST] {expected} [/INST]"


def test_turns_of_the_same_speaker_are_joined() -> None:
    text = text_of("v1", turn("user", "One"), turn("user", "Two"))
    assert text == f"{POLITE} USER: One\n\nTwo ASSISTANT:"
