"""Answers of real (tiny, random) models: the same as transformers' own, with and without reuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag

import pytest
import torch
import transformers
from PIL import Image

from backends.engines.base import ChatRequest
from backends.engines.transformers_engine import TransformersEngine
from backends.errors import PicturesExceeded, PicturesUnseen
from backends.messages import (
    Done,
    ImagePart,
    Message,
    Role,
    TextDelta,
    TextPart,
)
from tests.support.answers import LONG, Draw, Engines, Models, ask, ask_alone, forget, greedy, said, user
from tests.support.plans import make_plan

EYES = ["llava", "llava-next", "gemma3"]
ALL = [*EYES, "llama", "mistral"]
CHUNKED = ["llava", "llava-next", "llama"]


def generate(folder: Path, messages: Sequence[Message], max_tokens: int) -> list[int]:
    """What `model.generate` answers to the same messages."""
    eyes = any(message.images for message in messages)
    auto = transformers.AutoModelForImageTextToText if eyes else transformers.AutoModelForCausalLM
    model = auto.from_pretrained(folder, dtype=torch.float32)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    turns = [
        {
            "role": message.role.value,
            "content": [
                {"type": "image"} if isinstance(part, ImagePart) else {"type": "text", "text": part.text}
                for part in message.parts
            ]
            if eyes
            else message.text,
        }
        for message in messages
    ]
    text = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    pictures = [Image.open(image.path).convert("RGB") for m in messages for image in m.images]
    if eyes:
        inputs = processor(text=[text], images=[pictures], return_tensors="pt")
    else:
        inputs = processor(text, return_tensors="pt", return_token_type_ids=False)
    made = model.generate(**inputs, do_sample=False, max_new_tokens=max_tokens)
    ids: list[int] = made[0, inputs["input_ids"].shape[1] :].tolist()
    return ids[: ids.index(3)] if 3 in ids else ids


@pytest.mark.parametrize("name", EYES)
def test_a_picture_question_is_answered_as_by_generate(
    name: str, engines: Engines, models: Models, picture: Draw
) -> None:
    messages = [
        Message(Role.SYSTEM, (TextPart("Be kind."),)),
        user(picture("red"), picture("blue"), LONG),
        said("Indeed."),
        user("And the other?"),
    ]
    assert list(ask_alone(engines(name), messages).token_ids) == generate(models(name), messages, 24)


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_a_text_question_is_answered_as_by_generate(name: str, engines: Engines, models: Models) -> None:
    messages = [user(LONG), said("Indeed."), user("And the other?")]
    assert list(ask_alone(engines(name), messages).token_ids) == generate(models(name), messages, 24)


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_a_model_without_eyes_does_not_pretend_to_see(name: str, engines: Engines, picture: Draw) -> None:
    question = [user("Hello."), said("Hi."), user(picture("red"), "What is this?")]
    with pytest.raises(PicturesUnseen, match=name):
        ask(engines(name), question)
    with pytest.raises(PicturesUnseen, match=name):
        engines(name).prime("draft", question, Flag())


@pytest.mark.parametrize(
    ("family", "planned", "asked"),
    [("mllama", 1, 2), ("mllama", 2, 3), ("gemma3", 0, 1)],
    ids=["one more than planned", "more in the chat than planned", "no picture was planned"],
)
def test_more_pictures_than_memory_is_kept_for_are_refused_before_they_are_encoded(
    family: str, planned: int, asked: int, models: Models, picture: Draw
) -> None:
    plan = replace(make_plan(models("gemma3"), context_tokens=1024), family=family, images=planned)
    colors = ("red", "green", "blue")[:asked]
    chat = [message for color in colors for message in (user(picture(color), "What?"), said("It."))][:-1]
    engine = TransformersEngine()
    try:
        engine.load(plan, lambda _: None, Flag())
        engine.rehearse(Flag())
        with pytest.raises(PicturesExceeded, match=f"It has {asked}; the plan counts {planned}"):
            ask(engine, chat)
        with pytest.raises(PicturesExceeded):
            engine.prime("draft", chat, Flag())
    finally:
        engine.close()


def test_pictures_of_earlier_turns_are_left_out_by_a_model_without_eyes(
    engines: Engines, picture: Draw
) -> None:
    seen = [user(picture("red"), LONG), said("Indeed."), user("And the other?")]
    unseen = [user(LONG), *seen[1:]]
    assert ask_alone(engines("llama"), seen).token_ids == ask_alone(engines("llama"), unseen).token_ids


Story = Callable[[Draw, str], list[list[Message]]]


def _follow_up(draw: Draw, answer: str) -> list[list[Message]]:
    first = [user(draw("red"), LONG)]
    return [first, [*first, said(answer), user("And the other?")]]


def _regenerate(draw: Draw, _: str) -> list[list[Message]]:
    return [[user(draw("red"), LONG)]] * 2


def _edit(draw: Draw, _: str) -> list[list[Message]]:
    return [[user(draw("red"), LONG + " Why?")], [user(draw("red"), LONG + " When?")]]


def _edit_early(draw: Draw, _: str) -> list[list[Message]]:
    return [[user(draw("red"), "x" + LONG)], [user(draw("red"), "y" + LONG)]]


def _second_picture(draw: Draw, answer: str) -> list[list[Message]]:
    first = [user(draw("red"), LONG)]
    return [first, [*first, said(answer), user(draw("blue"), "Which is larger?")]]


def _other_picture(draw: Draw, _: str) -> list[list[Message]]:
    return [[user(draw("red"), LONG)], [user(draw("blue"), LONG)]]


def _swapped_pictures(draw: Draw, _: str) -> list[list[Message]]:
    return [[user(draw("red"), draw("blue"), LONG)], [user(draw("blue"), draw("red"), LONG)]]


def _same_picture_twice(draw: Draw, _: str) -> list[list[Message]]:
    return [[user(draw("red"), LONG)], [user(draw("red"), draw("red"), LONG)]]


def _picture_removed(draw: Draw, _: str) -> list[list[Message]]:
    return [[user(draw("red"), LONG)], [user(LONG)]]


def _shortened(draw: Draw, answer: str) -> list[list[Message]]:
    long = [user(draw("red"), LONG), said(answer), user(LONG), said(answer), user("More?")]
    return [long, long[:3], long]


STORIES: dict[str, Story] = {
    "follow-up question": _follow_up,
    "regenerate": _regenerate,
    "edit the end of the question": _edit,
    "edit the beginning of the question": _edit_early,
    "second picture in a later turn": _second_picture,
    "another picture with the same placeholder tokens": _other_picture,
    "two pictures swapped": _swapped_pictures,
    "the same picture once more": _same_picture_twice,
    "picture removed": _picture_removed,
    "cut back and grown again": _shortened,
}


def told(story: str, name: str, draw: Draw, answer: str) -> list[list[Message]]:
    """The story's conversations; a model without eyes is told them without the pictures."""
    conversations = STORIES[story](draw, answer)
    return conversations if name in EYES else [[blind(one) for one in messages] for messages in conversations]


def blind(message: Message) -> Message:
    return Message(message.role, tuple(part for part in message.parts if isinstance(part, TextPart)))


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("name", ALL)
def test_reuse_never_changes_an_answer(name: str, story: str, engines: Engines, picture: Draw) -> None:
    engine = engines(name)
    conversations = told(story, name, picture, "It is.")
    alone = [ask_alone(engine, messages).token_ids for messages in conversations]
    forget(engine)
    together = [ask(engine, messages, "tab")[1] for messages in conversations]
    assert [done.token_ids for done in together] == alone


@pytest.mark.parametrize("story", ["follow-up question", "regenerate", "edit the end of the question"])
@pytest.mark.parametrize("name", CHUNKED)
def test_the_common_beginning_is_reused(name: str, story: str, engines: Engines, picture: Draw) -> None:
    engine = engines(name)
    forget(engine)
    first, *_, last = (ask(engine, messages, "tab")[1] for messages in told(story, name, picture, "It is."))
    assert first.usage.reused_tokens == 0
    assert last.usage.reused_tokens >= 128


@pytest.mark.parametrize("name", ["llava", "llava-next"])
@pytest.mark.parametrize(
    "story", ["another picture with the same placeholder tokens", "two pictures swapped"]
)
def test_another_picture_is_never_reused(name: str, story: str, engines: Engines, picture: Draw) -> None:
    engine = engines(name)
    forget(engine)
    dones = [ask(engine, messages, "tab")[1] for messages in STORIES[story](picture, "")]
    assert [done.usage.reused_tokens for done in dones] == [0, 0]


@pytest.mark.parametrize("name", ["llava", "llava-next", "llama"])
def test_a_stopped_answer_leaves_a_usable_cache(name: str, engines: Engines, picture: Draw) -> None:
    engine = engines(name)
    (messages, _) = told("regenerate", name, picture, "")
    alone = ask_alone(engine, messages).token_ids
    forget(engine)
    cancel = Flag()
    events = engine.chat(ChatRequest("tab", messages, greedy()), cancel)
    for event in events:
        if isinstance(event, TextDelta):
            cancel.set()
            break
    done = list(events)[-1]
    assert isinstance(done, Done)
    assert done.finish_reason == "cancelled"
    assert done.token_ids == alone[: len(done.token_ids)]
    assert len(done.token_ids) < len(alone)
    again = ask(engine, messages, "tab")[1]
    assert again.token_ids == alone
    assert again.usage.reused_tokens > 0


def test_an_abandoned_answer_leaves_a_usable_cache(engines: Engines, picture: Draw) -> None:
    engine = engines("llava")
    messages = [user(picture("red"), LONG)]
    alone = ask_alone(engine, messages).token_ids
    events = engine.chat(ChatRequest("tab", messages, greedy()), Flag())
    assert any(isinstance(event, TextDelta) for event in events)
    events.close()  # type: ignore[attr-defined]
    assert ask(engine, messages, "tab")[1].token_ids == alone


@pytest.mark.parametrize("name", ["llava", "gemma3"])
@pytest.mark.parametrize("layer", [0, 2], ids=["before the first layer", "before the last layer"])
def test_stop_in_the_middle_of_a_prefill(name: str, layer: int, engines: Engines, picture: Draw) -> None:
    """Cancelling takes effect at the next layer, and what it leaves behind does no harm."""
    engine = engines(name)
    messages = [user(picture("red"), LONG)]
    alone = ask_alone(engine, messages).token_ids
    forget(engine)
    cancel = Flag()
    layers = engine._path._runner._model.model.language_model.layers  # type: ignore[union-attr]
    handle = layers[layer].register_forward_pre_hook(lambda *_: cancel.set())
    try:
        events = list(engine.chat(ChatRequest("tab", messages, greedy()), cancel))
    finally:
        handle.remove()
    assert isinstance(events[-1], Done)
    assert events[-1].finish_reason == "cancelled"
    assert events[-1].token_ids == ()
    assert ask(engine, messages, "tab")[1].token_ids == alone


def test_prime_prefills_up_to_the_draft(engines: Engines, picture: Draw) -> None:
    engine = engines("llava")
    question = [user(picture("red"), "How many circles?")]
    alone = ask_alone(engine, question)
    forget(engine)
    engine.prime("tab", [user(picture("red"), "How ma")], Flag())
    primed = ask(engine, question, "tab")[1]
    assert primed.token_ids == alone.token_ids
    assert alone.usage.prompt_tokens > primed.usage.reused_tokens >= primed.usage.image_tokens > 0


@pytest.mark.parametrize(
    ("drafted", "asked", "reuses"),
    [("red", "blue", False), ("red", None, False), ("red", "red", True)],
    ids=["picture exchanged", "picture removed", "picture kept"],
)
def test_a_primed_picture_serves_only_itself(
    drafted: str, asked: str | None, reuses: bool, engines: Engines, picture: Draw
) -> None:
    engine = engines("llava-next")
    question = [user(picture(asked), "What?") if asked else user("What?")]
    alone = ask_alone(engine, question)
    forget(engine)
    engine.prime("tab", [user(picture(drafted), "")], Flag())
    done = ask(engine, question, "tab")[1]
    assert done.token_ids == alone.token_ids
    assert (done.usage.reused_tokens > 0) == reuses


def test_prime_after_an_answer_prepares_the_follow_up(engines: Engines, picture: Draw) -> None:
    engine = engines("llava")
    turn = [user(picture("red"), LONG), said(LONG)]
    follow_up = [*turn, user("And now?")]
    alone = ask_alone(engine, follow_up)
    forget(engine)
    ask(engine, turn[:1], "tab")
    engine.prime("tab", [*turn, user("")], Flag())
    done = ask(engine, follow_up, "tab")[1]
    assert done.token_ids == alone.token_ids
    assert done.usage.prompt_tokens - done.usage.reused_tokens <= 128 + 16


def test_prime_yields_to_a_question(engines: Engines, picture: Draw) -> None:
    engine = engines("llava")
    cancel = Flag()
    layers = engine._path._runner._model.model.language_model.layers  # type: ignore[union-attr]
    handle = layers[1].register_forward_pre_hook(lambda *_: cancel.set())
    forget(engine)
    try:
        engine.prime("tab", [user(picture("red"), LONG)], cancel)
    finally:
        handle.remove()
    messages = [user(picture("red"), LONG)]
    done = ask(engine, messages, "tab")[1]
    assert done.usage.reused_tokens == 0
    assert done.token_ids == ask_alone(engine, messages).token_ids


def test_a_new_conversation_starts_from_another_ones_picture(engines: Engines, picture: Draw) -> None:
    engine = engines("llava")
    messages = [user(picture("green"), LONG)]
    forget(engine)
    first = ask(engine, messages, "one")[1]
    second = ask(engine, messages, "two")[1]
    assert second.usage.reused_tokens > 0
    assert second.token_ids == first.token_ids == ask(engine, messages, "one")[1].token_ids
