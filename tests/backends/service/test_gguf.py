"""A GGUF file through the whole service: planned, loaded, asked about pictures, measured, given back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.messages import Done, Message, Role, SamplingParams, TextDelta, TextPart
from backends.placement.types import Overrides, PlanRequest
from backends.presets import Preset
from backends.service import Service
from backends.settings import Settings
from tests.support import tiny_gguf
from tests.support.asking import GREEDY
from tests.support.processes import children


@pytest.fixture
def real(settings: Settings) -> Iterator[Service]:
    before = children()
    with Service(settings, preload=False) as made:
        yield made
    assert children() <= before


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tiny_gguf.write_eyes(tmp_path / "gguf" / "tiny-mmproj.gguf")
    return tiny_gguf.write_text(tmp_path / "gguf" / "tiny.gguf", endless=True)


def test_the_plan_is_what_is_loaded_and_measured(real: Service, settings: Settings, model: Path) -> None:
    plan = real.plan(PlanRequest(str(model), Preset.CPU, Overrides(context_tokens=512)))
    assert (plan.engine, plan.precision, plan.verdict) == ("llamacpp", "f32", "fits")
    list(real.load(plan))
    report = real.state().report
    assert report is not None
    assert (report.engine, report.precision, report.device_map) == (
        plan.engine,
        plan.precision,
        plan.device_map,
    )

    example = min(settings.examples.glob("*.png"))
    question = (Message(Role.USER, (real.import_image(example, example.name), TextPart("What?"))),)
    sampling = SamplingParams(temperature=0.0, max_tokens=20)
    done = list(real.chat("tab", question, sampling))[-1]
    assert isinstance(done, Done)
    assert done.usage.image_tokens == tiny_gguf.PICTURE_TOKENS == plan.image_tokens
    again = list(real.chat("tab", question, sampling))[-1]
    assert isinstance(again, Done)
    assert again.usage.reused_tokens >= tiny_gguf.PICTURE_TOKENS
    assert again.token_ids == done.token_ids

    measured = real.state().measured
    assert measured is not None
    assert measured.context_tokens == 512
    (ram,) = measured.devices
    assert ram.weights_bytes == plan.devices[0].weights_bytes

    # Nothing of it can be moved: another context means another load.
    other = real.plan(PlanRequest(str(model), Preset.CPU, Overrides(context_tokens=1024)))
    assert "while it reads its file" in str(real.why_reload(other))
    list(real.load(other))
    assert real.state().status == "ready"

    stream = real.chat("tab", question, GREEDY)
    while not isinstance(next(stream), TextDelta):
        pass
    real.cancel("tab")
    stopped = list(stream)[-1]
    assert isinstance(stopped, Done)
    assert stopped.finish_reason == "cancelled"
    real.unload()
    assert real.state().status == "empty"
