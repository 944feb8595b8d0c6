"""What the button says and does to the model that is loaded, told before it is pressed."""

from __future__ import annotations

from dataclasses import replace
from html import unescape

import pytest

from backends.messages import Done, Progress, Timings, Usage
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from backends.reports import LoadReport
from backends.service import ModelState
from backends.text import Text
from tests.support.fake_service import make_plan
from ui.i18n import Translator
from ui.loading import progress_text
from ui.web import chat_flow
from ui.web.chat_flow import Conversation, Turn
from ui.web.format import plan_card
from ui.web.panels import header, placement
from ui.web.panels.setup import buttons
from ui.web.route import route

SAY, ZH = Translator("en"), Translator("zh")
FILES = Text("move.files_changed", "Its files have changed since they were read.")
REQUEST = PlanRequest("starter")
LOADED = make_plan(REQUEST)
OTHER = make_plan(PlanRequest("starter", Preset.CUSTOM, Overrides(gpu_layers=2)))
MOVED = replace(OTHER, device_map=(("model.embed", "cuda:0"), ("model.layers.0", "cpu")))
ANOTHER = make_plan(PlanRequest("another"))
REPORT = LoadReport(
    "transformers",
    "fp32",
    LOADED.device_map,
    "fp32",
    0,
    None,
    1.2,
    (),
    supports_images=True,
    context_tokens=2048,
)
READY = ModelState("ready", LOADED, REPORT)


@pytest.mark.parametrize(
    ("state", "plan", "why", "label", "note"),
    [
        (ModelState(), LOADED, None, "Load", ""),
        (READY, LOADED, None, "Loaded", ""),
        (
            READY,
            MOVED,
            None,
            "Rearrange",
            "The loaded model takes its new places in memory; its files are not read again.",
        ),
        (
            replace(
                READY, plan=replace(LOADED, device_map=(("model.embed", "cpu"), ("model.layers.0", "disk")))
            ),
            MOVED,
            None,
            "Rearrange",
            "The loaded model takes its new places; only what rests on the disk is read.",
        ),
        (
            READY,
            OTHER,
            None,
            "Apply",
            "Nothing has to move: this takes effect at once, and no file is read again.",
        ),
        (READY, MOVED, FILES, "Load this", f"It has to be loaded again: {FILES}"),
        (READY, ANOTHER, FILES, "Load this", ""),
        (READY, replace(MOVED, verdict="no"), None, "Load this", ""),
    ],
    ids=[
        "nothing is loaded",
        "as it is loaded",
        "other places",
        "what rested on the disk comes into memory",
        "other limits",
        "the files are needed",
        "another model",
        "what does not fit",
    ],
)
def test_the_button_and_its_sentence(
    state: ModelState, plan: Plan, why: Text | None, label: str, note: str
) -> None:
    way = route(state, plan.request, plan, lambda _: why)
    load, unload = buttons(state, way, SAY, possible=True)
    assert load.value == label
    assert load.interactive == (label != "Loaded")
    assert unload.visible == (state.status == "ready")
    assert way.note(SAY) == note
    assert (way.note(ZH) != way.note(SAY)) == bool(note)


def test_a_plan_for_another_machine_says_nothing_of_this_one() -> None:
    way = route(READY, OTHER.request, None, lambda _: None)
    assert (way.label(SAY), way.note(SAY)) == ("Load this", "")


@pytest.mark.parametrize(
    ("moving", "stage", "button", "status"),
    [
        (True, "move", "Moving…", "Moving 25 %"),
        (True, "wait", "Moving…", "waiting for the answer under way"),
        (False, "read", "Loading…", "Loading 25 %"),
    ],
)
def test_moving_is_not_called_loading(moving: bool, stage: str, button: str, status: str) -> None:
    total = 0 if stage == "wait" else 4 << 30
    progress = Progress(stage, total // 4, total)  # type: ignore[arg-type]
    state = ModelState("loading", OTHER, progress=progress, moving=moving)
    load, cancel = buttons(state, route(state, OTHER.request, OTHER, lambda _: None), SAY, possible=True)
    assert (load.value, cancel.value) == (button, "Cancel")
    assert status in unescape(header.status_html(state, SAY))


def test_bytes_on_the_move_are_said_as_bytes() -> None:
    assert progress_text(Progress("move", 1 << 30, 4 << 30), SAY) == "moving 1.0 GB of 4.0 GB"
    assert progress_text(Progress("move", 0, 0), ZH) == "正在移动"


def answered(by: LoadReport | None) -> Conversation:
    done = Done("stop", Usage(10, 0, 2), Timings(0.4, 38.0, 1.0), (1, 2))
    turns = chat_flow.ask((), chat_flow.question("one", ()))
    return (replace(turns[0], status="done", done=done, by=by),)


@pytest.mark.parametrize(
    ("turns", "rate"),
    [
        (answered(REPORT), 38.0),
        (answered(replace(REPORT, seconds=9.0)), None),
        (answered(None), None),
        ((), None),
    ],
    ids=["by this load", "from before it was moved", "nobody knows by which", "not asked yet"],
)
def test_an_answer_s_figures_stand_under_the_plan_that_gave_it(
    turns: tuple[Turn, ...], rate: float | None
) -> None:
    assert placement.measured(LOADED, READY, turns).tokens_per_s == rate


@pytest.mark.parametrize(("moved", "said"), [(False, "was 1.2 s"), (True, "moved in 1.2 s")])
def test_a_move_is_not_shown_as_how_long_loading_took(moved: bool, said: str) -> None:
    state = replace(READY, report=replace(REPORT, moved=moved))
    card = plan_card(LOADED, SAY, placement.measured(LOADED, state, ()))
    assert said in card
    assert ("moved in" in card) == moved
