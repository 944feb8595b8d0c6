"""The engine that tests of the worker and the page rely on."""

from pathlib import Path
from threading import Event as Flag

import pytest

from backends.engines.base import ChatRequest
from backends.engines.fake import FakeEngine
from backends.errors import Cancelled, ContextExceeded, ModelDamaged, NotLoaded, OutOfGpuMemory, OutOfRam
from backends.messages import Done, ImagePart, Message, Progress, Role, SamplingParams, TextDelta, TextPart
from tests.support.plans import make_plan

PICTURE = ImagePart(Path("a.png"), "a" * 64, 8, 8)


def ask(text: str, *, images: tuple[ImagePart, ...] = (), max_tokens: int = 512) -> ChatRequest:
    return ChatRequest(
        "tab", (Message(Role.USER, (*images, TextPart(text))),), SamplingParams(max_tokens=max_tokens)
    )


def loaded(context_tokens: int = 512) -> FakeEngine:
    engine = FakeEngine()
    engine.load(make_plan("fake", context_tokens=context_tokens), lambda _: None, Flag())
    return engine


def answer(engine: FakeEngine, request: ChatRequest) -> tuple[str, Done]:
    events = list(engine.chat(request, Flag()))
    done = events[-1]
    assert isinstance(done, Done)
    return "".join(event.text for event in events if isinstance(event, TextDelta)), done


def test_load_reports_bytes_that_grow_to_the_total() -> None:
    seen: list[Progress] = []
    report = FakeEngine().load(make_plan("fake"), seen.append, Flag())
    read = [event.done for event in seen if event.stage == "read"]
    assert read == sorted(read)
    assert read[-1] == seen[-1].total == 1_000_000
    assert report.supports_images


@pytest.mark.parametrize(
    ("images", "expected"),
    [((), "I see 0 pictures. You said: hi"), ((PICTURE,), "I see 1 picture. You said: hi")],
    ids=["text only", "one picture"],
)
def test_answer_echoes_the_question_and_counts_pictures(images: tuple[ImagePart, ...], expected: str) -> None:
    text, done = answer(loaded(), ask("hi", images=images))
    assert text == expected
    assert done.finish_reason == "stop"
    assert done.usage.image_tokens == 64 * len(images)


def test_length_limit_ends_the_answer() -> None:
    text, done = answer(loaded(), ask("one two three", max_tokens=2))
    assert (text, done.finish_reason) == ("I see", "length")


def test_cancel_ends_a_slow_answer_with_done() -> None:
    cancel = Flag()
    events = loaded().chat(ask("slow long"), cancel)
    for event in events:
        if isinstance(event, TextDelta):
            cancel.set()
            break
    rest = list(events)
    assert isinstance(rest[-1], Done)
    assert rest[-1].finish_reason == "cancelled"
    assert len(rest) == 1


def test_primed_picture_is_reused() -> None:
    engine = loaded()
    engine.prime("tab", (Message(Role.USER, (PICTURE, TextPart("half a"))),), Flag())
    _, done = answer(engine, ask("question", images=(PICTURE,)))
    assert done.usage.reused_tokens == 64


@pytest.mark.parametrize(
    ("text", "context", "error"),
    [
        ("oom", 512, OutOfGpuMemory),
        ("oom-over:511", 512, OutOfRam),
        ("one two three", 2, ContextExceeded),
    ],
)
def test_errors_on_command(text: str, context: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        list(loaded(context).chat(ask(text), Flag()))


def test_asking_without_a_model_is_an_error() -> None:
    with pytest.raises(NotLoaded):
        list(FakeEngine().chat(ask("hi"), Flag()))


def test_damaged_model_is_reported() -> None:
    with pytest.raises(ModelDamaged):
        FakeEngine().load(make_plan("damaged-load"), lambda _: None, Flag())


def test_load_stops_when_cancelled() -> None:
    cancel = Flag()
    cancel.set()
    with pytest.raises(Cancelled):
        FakeEngine().load(make_plan("slow-load"), lambda _: None, cancel)
