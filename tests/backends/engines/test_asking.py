"""Sampling, limits, mistakes and rehearsals of real (tiny, random) models."""

from __future__ import annotations

from pathlib import Path
from threading import Event as Flag

import pytest

from backends.engines.base import ChatRequest
from backends.engines.transformers_engine import TransformersEngine
from backends.errors import ContextExceeded, ImageUnreadable, NotLoaded
from backends.messages import (
    Done,
    ImagePart,
    Progress,
    SamplingParams,
    TextDelta,
)
from tests.support.answers import LONG, Draw, Engines, Models, ask, greedy, user
from tests.support.plans import make_plan

EYES = ["llava", "llava-next", "gemma3"]
ALL = [*EYES, "llama", "mistral"]
CHUNKED = ["llava", "llava-next", "llama"]


@pytest.mark.parametrize("name", ["llava", "gemma3"])
def test_seeded_sampling_is_repeatable(name: str, engines: Engines, picture: Draw) -> None:
    engine = engines(name)
    messages = [user(picture("red"), "What?")]

    def draw(seed: int | None) -> tuple[int, ...]:
        sampling = SamplingParams(temperature=1.5, top_p=0.95, max_tokens=24, seed=seed)
        return ask(engine, messages, "tab", sampling)[1].token_ids

    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in (1, 2, 3, None, None)}) > 1


def test_length_limits(engines: Engines, picture: Draw) -> None:
    engine = engines("llava")
    text, done = ask(engine, [user(picture("red"), "What?")], sampling=greedy(3))
    assert (done.finish_reason, len(done.token_ids)) == ("length", 3)
    assert done.usage.completion_tokens == 3
    assert text == engine._speaker.tokenizer.decode(done.token_ids, skip_special_tokens=True).lstrip()  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["llava", "mistral"])
def test_the_context_is_the_limit(name: str, engines: Engines) -> None:
    engine = engines(name)
    with pytest.raises(ContextExceeded) as caught:
        ask(engine, [user(LONG * 8)])
    assert caught.value.values["context_tokens"] == 1024
    nearly = "x" * 980
    done = ask(engine, [user(nearly)], sampling=greedy(500))[1]
    assert done.finish_reason in ("length", "stop")
    assert done.usage.prompt_tokens + done.usage.completion_tokens <= 1024


def test_events_come_in_order(engines: Engines, picture: Draw) -> None:
    events = list(engines("llava").chat(ChatRequest("x", [user(picture("red"), "What?")], greedy()), Flag()))
    assert isinstance(events[0], Progress)
    assert all(isinstance(event, TextDelta) for event in events[1:-1])
    done = events[-1]
    assert isinstance(done, Done)
    assert done.usage.image_tokens == 16
    assert 0 < done.timings.first_token_s <= done.timings.total_s


def test_a_typed_placeholder_is_not_a_picture(engines: Engines, picture: Draw) -> None:
    messages = [user(picture("red"), "Is <image> a picture?")]
    assert ask(engines("llava"), messages)[1].usage.image_tokens == 16


def test_a_vanished_picture_is_named(engines: Engines, tmp_path: Path) -> None:
    gone = ImagePart(tmp_path / "gone.png", "f" * 64, 8, 8)
    with pytest.raises(ImageUnreadable, match=r"gone\.png"):
        ask(engines("llava"), [user(gone, "What?")])


def test_the_engine_answers_after_an_error(engines: Engines, picture: Draw, tmp_path: Path) -> None:
    engine = engines("llava")
    with pytest.raises(ImageUnreadable):
        ask(engine, [user(ImagePart(tmp_path / "gone.png", "e" * 64, 8, 8), "What?")])
    assert ask(engine, [user(picture("red"), "What?")])[1].finish_reason in ("stop", "length")


def test_a_rehearsal_runs_the_whole_model_and_is_forgotten(models: Models, picture: Draw) -> None:
    engine = TransformersEngine()
    engine.load(make_plan(models("llava")), lambda _: None, Flag())
    assert engine._path is not None
    ran: set[str] = set()
    for name, layer in engine._path._runner._model.named_modules():  # type: ignore[attr-defined]
        layer.register_forward_hook(lambda *_, name=name: ran.add(name))
    engine.rehearse(Flag())
    for part in ("vision_tower", "language_model", "lm_head"):
        assert any(part in name for name in ran), part
    assert ask(engine, [user(picture("red"), "What is this?")])[1].usage.reused_tokens == 0
    engine.close()


@pytest.mark.parametrize("name", ["gemma3", "llama"])
def test_models_of_every_kind_rehearse(name: str, engines: Engines) -> None:
    engine = engines(name)
    engine.rehearse(Flag())
    assert ask(engine, [user("Hi")])[1].usage.reused_tokens == 0


def test_a_rehearsal_gives_way(models: Models) -> None:
    engine = TransformersEngine()
    engine.load(make_plan(models("llava")), lambda _: None, Flag())
    assert engine._path is not None
    asked = Flag()
    layers: list[str] = []

    def ask_in_the_first_layer(*_: object) -> None:
        layers.append("ran")
        asked.set()

    decoder = engine._path._runner._model.get_submodule("model.language_model.layers")  # type: ignore[attr-defined]
    for layer in decoder:
        layer.register_forward_hook(ask_in_the_first_layer)
    engine.rehearse(asked)
    assert layers == ["ran"]
    engine.rehearse(asked)
    assert layers == ["ran"]
    engine.close()


def test_asking_before_loading() -> None:
    with pytest.raises(NotLoaded):
        ask(TransformersEngine(), [user("Hi")])
    with pytest.raises(NotLoaded):
        TransformersEngine().prime("tab", [user("Hi")], Flag())
    with pytest.raises(NotLoaded):
        TransformersEngine().rehearse(Flag())
