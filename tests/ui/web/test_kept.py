"""What the browser keeps of the page's choices, and what is taken of what it gives back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.placement.types import Overrides, PlanRequest
from backends.presets import Preset
from tests.support.planning_tab import Tab
from ui.web import kept
from ui.web.planning import restore
from ui.web.redrawing import above_plan

CHOSEN = Overrides(
    gpus=(1,), gpu_layers=12, precision="nf4", context_tokens=2048, images=2, image_tokens=640,
    cpu_layers_mode="stream", max_memory=(("cuda:1", 6 << 30), ("cpu", 7)), offload_dir="D:\\a b=c\\图片",
)  # fmt: skip


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    """The page as it opens, without a model by name."""
    made = Tab(tmp_path)
    made.context = replace(made.context, start=PlanRequest("starter"))
    made.session.request = PlanRequest("starter")
    yield made
    made.service.close()


@pytest.mark.parametrize(
    "request_",
    [
        PlanRequest("starter"),
        PlanRequest("C:\\模型\\llava 1.5", Preset.LOW),
        PlanRequest("m", Preset.CUSTOM, CHOSEN),
        PlanRequest("m", Preset.CPU, Overrides(engine="llamacpp", precision="q4_0")),
        PlanRequest("m", Preset.CUSTOM, Overrides(device_map=(("", "cpu"), ("model.layers.3", "cuda:0")))),
    ],
    ids=["nothing", "model and preset", "every setting", "an engine", "a map"],
)
def test_what_is_kept_comes_back(request_: PlanRequest) -> None:
    assert kept.from_text(kept.to_text(request_)) == request_


def written(**changes: Any) -> str:
    return json.dumps({"model": "m", "preset": "auto", "settings": []} | changes)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "[" * 50_000,
        written(model=""),
        written(model=7),
        written(model="m" * 5000),
        written(model="a\0b"),
        written(preset="best"),
        written(settings="precision=nf4"),
        written(settings=["precision=q4_k_m"]),
        written(settings=["context=-1"]),
        written(settings=["gpus=1,1"]),
        written(settings=["max_memory.tpu=1GiB"]),
        written(settings=["offload_dir=relative"]),
        written(settings=["engine=remote"]),
        written(settings=["device_map=/etc/passwd"]),
        written(settings=[["context=1"]]),
        written(settings=["images=1"] * 65),
        written(device_map="nothing"),
        written(device_map={"": "cpu"}),
        written(model="m" * 100_001),
    ],
)
def test_anything_else_is_nothing(text: str) -> None:
    assert kept.from_text(text) is None


def test_a_page_opens_with_what_was_chosen(tab: Tab) -> None:
    asked = PlanRequest(tab.llava, Preset.CUSTOM, Overrides(gpus=(1,), gpu_layers=12))
    restore(tab.context, tab.session, kept.to_text(asked))
    assert tab.request == asked
    assert above_plan(tab.session) == ""


def test_a_map_comes_back_with_its_model(tab: Tab) -> None:
    asked = PlanRequest(tab.llava, Preset.CUSTOM, Overrides(device_map=(("", "cpu"),)))
    restore(tab.context, tab.session, kept.to_text(asked))
    assert tab.request == asked
    assert above_plan(tab.session) == ""


def test_what_makes_no_sense_any_more_is_named(tab: Tab) -> None:
    gone = Overrides(gpus=(5,), gpu_layers=99, context_tokens=2048)
    restore(tab.context, tab.session, kept.to_text(PlanRequest(tab.llava, Preset.CUSTOM, gone)))
    assert tab.request == PlanRequest(tab.llava, Preset.CUSTOM, Overrides(context_tokens=2048))
    said = above_plan(tab.session)
    assert "GPUs to use: back to automatic, because there is no such GPU." in said
    assert "Layers on the GPU: back to automatic, because this model has 32 layers." in said


def test_a_model_that_is_gone_is_said(tab: Tab) -> None:
    restore(tab.context, tab.session, kept.to_text(PlanRequest("/gone/llava", Preset.LOW)))
    assert tab.request == PlanRequest("starter")
    assert "/gone/llava is not there any more" in above_plan(tab.session)


def test_what_the_page_was_started_with_comes_first(tab: Tab) -> None:
    tab.context = replace(tab.context, start=PlanRequest("starter", Preset.CPU))
    restore(tab.context, tab.session, kept.to_text(PlanRequest(tab.llava)))
    assert tab.request == PlanRequest("starter")


def test_another_machine_is_not_for_the_next_visit(tab: Tab) -> None:
    from ui.web import wiring_whatif

    tab.session.request = PlanRequest(tab.llava)
    assert tab.draw()["kept"]["value"] == kept.to_text(PlanRequest(tab.llava))
    wiring_whatif.choose(tab.context, tab.session, "laptop_6")
    tab.session.request = PlanRequest(tab.llava, Preset.LOW)
    assert "kept" not in tab.draw()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (kept.to_text(PlanRequest("m"), leave_room=True), True),
        (kept.to_text(PlanRequest("m")), False),
        (written(leave_room="yes"), False),
        (written(leave_room=True, model=""), False),
        ("", False),
    ],
)
def test_room_for_other_programs_is_kept(text: str, said: bool) -> None:
    assert kept.leaves_room(text) is said
