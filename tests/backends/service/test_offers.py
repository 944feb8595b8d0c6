"""What a model can be converted to, as the service knows it: kept, renewed, and taken into plans."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event as Flag

import pytest

from backends.conversion import layouts
from backends.conversion.cache import stem
from backends.conversion.convert import convert
from backends.conversion.types import Layout, Request, WeightType
from backends.hardware.llama_build import llama_version
from backends.placement.types import Overrides, PlanRequest
from backends.presets import Preset
from backends.service import Service
from backends.service.library import Library
from backends.settings import Settings
from tests.support import checkpoints

STARTER = PlanRequest("starter", Preset.CPU)


def convert_starter(settings: Settings) -> None:
    """What a load leaves: files, and the record of what was compared."""
    cache = settings.converted
    convert(Request(settings.starter, cache, WeightType.Q8_0, Layout.ROTATED), lambda *_: None, Flag())
    record = {"layout": "rotated", "library": llama_version(), "gaps": {"rotated": 0.01}}
    path = layouts.record_of(cache, stem(settings.starter))
    path.write_text(json.dumps(record), encoding="utf-8")


def test_the_starter_runs_with_llamacpp_on_a_processor(service: Service, settings: Settings) -> None:
    plan = service.plan(STARTER)
    assert (plan.engine, plan.precision, plan.verdict) == ("llamacpp", "q8_0", "fits")
    assert plan.conversion is not None
    assert Path(plan.conversion.cache) == settings.converted
    assert not plan.conversion.ready
    assert not settings.converted.exists(), "nothing is made by planning"


def test_a_conversion_that_was_done_is_seen_at_once(service: Service, settings: Settings) -> None:
    before = service.plan(STARTER)
    convert_starter(settings)
    after = service.plan(STARTER)
    assert after.conversion is not None
    assert (after.conversion.ready, after.conversion.layout) == (True, Layout.ROTATED)
    assert after.expected.load_s <= before.expected.load_s
    assert after.disk_needed_bytes == 0 < before.disk_needed_bytes
    other = service.plan(PlanRequest("starter", Preset.CPU, Overrides(precision="q4_0")))
    assert other.conversion is not None
    assert not other.conversion.ready

    described = service.plan(STARTER, service.snapshot())
    assert described.conversion is not None
    assert (described.conversion.ready, described.conversion.layout) == (False, None), "another machine"


def test_it_is_worked_out_once_until_something_changes(settings: Settings) -> None:
    library = Library(settings)
    first = library.offers("starter")
    assert library.offers("starter") is first
    convert_starter(settings)
    second = library.offers("starter")
    assert second is not first
    assert library.offers("starter") is second
    record = layouts.record_of(settings.converted, stem(settings.starter))
    record.write_text("{}", encoding="utf-8")
    assert [one.conversion.ready for one in library.offers("starter").variants] == [False] * 3


def test_without_the_library_transformers_runs_and_it_is_said(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backends.service.facade.llama_version", lambda: None)
    plan = service.plan(STARTER)
    assert (plan.engine, plan.precision, plan.verdict) == ("transformers", "fp32", "fits")
    assert any("xllamacpp) is not installed" in str(reason) for reason in plan.reasons)
    described = service.plan(STARTER, service.snapshot())
    assert described.engine == "llamacpp", "another machine may have it"


def test_what_can_not_be_converted_runs_as_before(service: Service, tmp_path: Path) -> None:
    folder = str(checkpoints.starter_like(tmp_path / "no tokenizer"))
    plan = service.plan(PlanRequest(folder, Preset.CPU))
    assert (plan.engine, plan.precision) == ("transformers", "fp32")
    assert any("tokenizer.json is missing" in str(reason) for reason in plan.reasons)
