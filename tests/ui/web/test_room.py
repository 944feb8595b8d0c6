"""More pictures than memory is kept for: room for them with one press, in the model that refused them."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.placement.types import PlanRequest
from backends.presets import Preset
from tests.support import checkpoints
from tests.support.climbing_tab import Open


def test_more_pictures_than_planned_get_their_memory_with_one_press(open_tab: Open, picture: Path) -> None:
    tab = open_tab(images=0, context_tokens=2048)
    tab.load()
    tab.ask("what is this?", picture)

    assert "It has 1; the plan counts 0 (pictures per chat)." in tab.says()
    assert tab.says().endswith("|Make room for them")
    tab.press()

    plan = tab.service.state().plan
    assert plan is not None
    assert (plan.images, plan.context_tokens) == (1, 2048), "all else stays as it was set"
    assert tab.session.request == plan.request
    assert tab.session.turns[-1].answer.startswith("I see 1 picture."), "and the question is asked again"
    assert tab.card is None


def test_room_that_is_asked_of_a_model_that_has_gone_says_so(
    open_tab: Open, picture: Path, tmp_path: Path
) -> None:
    tab = open_tab(images=0, context_tokens=2048)
    tab.load()
    tab.ask("what is this?", picture)
    other = PlanRequest(str(checkpoints.qwen25_vl_7b(tmp_path / "another one")), Preset.AUTO)
    tab.loader.load(tab.service.plan(other))  # from another tab
    tab.wait(lambda: not tab.loader.busy)
    before = tab.session.request
    tab.press()

    assert tab.service.state().plan.request == other  # type: ignore[union-attr]
    assert tab.session.request == before
    said = tab.says()
    assert "Another model is loaded now." in said
    assert "llava kept no memory for the pictures; another one has taken its place since." in said
    assert "现在加载的是另一个模型" in tab.says("zh")
    assert said.endswith("|Try again")
    tab.press()
    assert tab.session.turns[-1].answer.startswith("I see 1 picture."), "by the one that is there"
    assert tab.card is None


@pytest.mark.parametrize("unloaded", [False, True], ids=["in memory", "unloaded since"])
def test_room_is_made_in_the_model_that_refused_whatever_was_chosen_since(
    open_tab: Open, picture: Path, tmp_path: Path, unloaded: bool
) -> None:
    tab = open_tab(images=0, context_tokens=2048)
    tab.load()
    refused = tab.service.state().plan
    tab.ask("what is this?", picture)
    tab.session.request = PlanRequest(str(checkpoints.qwen25_vl_7b(tmp_path / "chosen")), Preset.AUTO)
    if unloaded:
        tab.loader.unload()
    tab.press()

    plan = tab.service.state().plan
    assert plan is not None
    assert refused is not None
    assert (plan.request.model, plan.images) == (refused.request.model, 1)
    assert tab.session.request == plan.request
    assert tab.session.turns[-1].answer.startswith("I see 1 picture.")


def test_pictures_that_no_context_holds_say_so_instead(open_tab: Open, picture: Path) -> None:
    tab = open_tab(images=0, context_tokens=512)
    tab.load()
    tab.ask("what is this?", picture)
    tab.press()

    assert "576" in tab.says(), "what is loaded stays, and why it can't be"
    assert tab.service.state().status == "ready"
