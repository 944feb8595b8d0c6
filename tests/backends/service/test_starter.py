"""The bundled model in the real engine, killed and stopped at every moment, through the whole service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from backends.errors import WorkerCrashed
from backends.messages import Done, Message, Role, SamplingParams, TextDelta, TextPart
from backends.placement.types import Overrides, PlanRequest
from backends.presets import Preset
from backends.service import Service
from backends.settings import Settings
from tests.support.asking import GREEDY, Asker
from tests.support.processes import children

# As it lies in its folder; what becomes of it under llama.cpp is told elsewhere.
STARTER = PlanRequest("starter", Preset.CPU, Overrides(engine="transformers"))


@pytest.fixture
def real(settings: Settings) -> Iterator[Service]:
    before = children()
    with Service(settings, preload=False) as made:
        yield made
    assert children() <= before


def question(service: Service, settings: Settings, text: str) -> tuple[Message, ...]:
    picture = min(settings.examples.glob("*.png"))
    image = service.import_image(picture, picture.name)
    return (Message(Role.USER, (image, TextPart(text))),)


def kill(service: Service) -> None:
    pid = service.state().worker_pid
    assert pid is not None
    psutil.Process(pid).kill()


def answer(service: Service, messages: tuple[Message, ...]) -> Done:
    done = list(service.chat("tab", messages, GREEDY))[-1]
    assert isinstance(done, Done)
    return done


def test_the_plan_is_what_the_engine_did(real: Service) -> None:
    plan = real.plan(STARTER)
    list(real.load(plan))
    report = real.state().report
    assert report is not None
    assert (report.engine, report.precision) == (plan.engine, plan.precision)
    assert {device for _, device in report.device_map} == {"cpu"}
    assert report.supports_images


@pytest.mark.timeout(900)  # four starts of the real engine, each with its imports
def test_killed_at_every_moment_it_starts_again_and_answers_the_same(
    real: Service, settings: Settings
) -> None:
    messages = question(real, settings, "Describe the picture.")
    list(real.load(real.plan(STARTER)))
    expected = answer(real, messages)

    kill(real)
    with pytest.raises(WorkerCrashed):
        list(real.chat("tab", messages, GREEDY))
    assert real.state().status == "crashed"

    loading = real.restart()
    while next(loading).stage == "start":
        pass
    kill(real)
    # So small a model may be in memory before the kill; the process is gone in any case.
    with suppress(WorkerCrashed):
        list(loading)
    with pytest.raises(WorkerCrashed):
        list(real.chat("tab", messages, GREEDY))

    list(real.restart())
    answering = real.chat("tab", messages, GREEDY)
    while not isinstance(next(answering), TextDelta):
        pass
    kill(real)
    with suppress(WorkerCrashed):
        list(answering)
    with pytest.raises(WorkerCrashed):
        list(real.chat("tab", messages, GREEDY))

    list(real.restart())
    assert answer(real, messages).token_ids == expected.token_ids


def test_stop_and_reuse_across_the_pipe(real: Service, settings: Settings) -> None:
    list(real.load(real.plan(STARTER)))
    messages = question(real, settings, "What is in the picture?")
    whole = answer(real, messages)
    again = answer(real, messages)
    assert again.usage.reused_tokens >= again.usage.image_tokens > 0
    assert again.token_ids == whole.token_ids

    stream = real.chat("tab", messages, SamplingParams(temperature=0.0, max_tokens=2000))
    while not isinstance(next(stream), TextDelta):
        pass
    real.cancel("tab")
    stopped = list(stream)[-1]
    assert isinstance(stopped, Done)
    assert stopped.finish_reason in {"cancelled", "stop"}
    assert stopped.token_ids == whole.token_ids[: len(stopped.token_ids)]
    assert Asker(real, "other", "hello").done.finish_reason in {"stop", "length"}
