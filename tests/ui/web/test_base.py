"""A LoRA's model on the page: found, or named under Custom; and with the LoRA it goes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from backends.errors import ModelNotFound, ModelUnsupported
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from tests.support import checkpoints
from tests.support.fake_service import fake_settings
from tests.support.planning_tab import Tab
from ui.i18n import LANGUAGES, Translator
from ui.web import by_hand, kept
from ui.web.app import build_app
from ui.web.planning import change, make_plan, restore, settle, undo
from ui.web.redrawing import above_plan

NAME = "llava-hf/llava-1.5-7b-hf"


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    """A tab with a LoRA chosen whose model is not where it is looked for."""
    made = Tab(tmp_path)
    made.session.request = PlanRequest(str(checkpoints.lora(tmp_path / "mein LoRA 微调", NAME)))
    yield made
    made.service.close()


def test_whole_models_have_no_such_field(tab: Tab) -> None:
    for model in (tab.llava, tab.text, tab.gguf, "/nowhere"):
        tab.session.request = PlanRequest(model)
        assert tab.draw().get("base", {}).get("visible") in (False, None)
    assert tab.service.leans_on(tab.llava) == ()
    assert tab.service.leans_on("/nowhere") == ()


@pytest.mark.parametrize("language", LANGUAGES)
def test_where_the_model_is_not_found_it_can_be_named(tab: Tab, language: Any) -> None:
    tab.session.language, say = language, Translator(language)
    error = make_plan(tab.context, tab.request)
    assert isinstance(error, ModelUnsupported)
    assert say("setup.custom") in say.text(error.remedy_text), "the page's own way is told"
    field = tab.draw()["base"]
    assert field["visible"]
    assert say("custom.base") in field["label"]
    assert field["info"] == say("custom.base_info")

    change(tab.context, tab.session, Overrides(base=tab.llava))
    made = make_plan(tab.context, tab.request)
    assert isinstance(made, Plan)
    assert made.family == "llava"
    drawn = tab.draw("base")
    assert drawn["base"]["placeholder"] == tab.llava
    assert "value" not in drawn["base"], "what stands there is newer"
    assert f"base={tab.llava}" in drawn["command"]["value"]
    assert drawn["gpu_layers"]["maximum"] == 32, "the other fields know the model as well"


def test_a_model_that_was_found_is_shown_in_the_empty_field(tab: Tab, tmp_path: Path) -> None:
    base = checkpoints.llava_15_7b(tmp_path / "llava-1.5-7b-hf")
    assert tab.draw()["base"]["placeholder"] == str(base)


def test_a_name_that_leads_nowhere_keeps_the_field(tab: Tab) -> None:
    change(tab.context, tab.session, Overrides(base="/no/such"))
    assert isinstance(make_plan(tab.context, tab.request), ModelNotFound)
    drawn = tab.draw()["base"]
    assert drawn["visible"]
    assert drawn["value"] == "/no/such"
    undo(tab.context, tab.session, "base")
    assert tab.request.overrides == Overrides()


def test_it_goes_with_its_lora_and_says_so(tab: Tab) -> None:
    for other in (tab.llava, "/nowhere"):
        change(tab.context, tab.session, Overrides(base=tab.llava, context_tokens=1024))
        settle(tab.context, tab.session, other, Preset.AUTO)
        assert tab.request.overrides == Overrides(context_tokens=1024)
        assert "Base model: back to automatic, because it was for another model." in above_plan(tab.session)
        settle(tab.context, tab.session, tab.text, Preset.AUTO)


@pytest.mark.parametrize("there", [True, False], ids=["as it was", "its model has gone"])
def test_it_is_kept_for_the_next_visit(tab: Tab, there: bool) -> None:
    asked = replace(tab.request, overrides=Overrides(base=tab.llava if there else "/gone/llava"))
    assert kept.from_text(kept.to_text(asked)) == asked
    tab.context = replace(tab.context, start=PlanRequest("starter"))
    tab.session.request = PlanRequest("starter")
    restore(tab.context, tab.session, kept.to_text(asked))
    assert tab.request == asked
    assert isinstance(make_plan(tab.context, tab.request), Plan if there else ModelNotFound)


@pytest.mark.parametrize(
    ("written", "means"),
    [("", None), (None, None), (' " " ', None), ('"D:\\a b"', "D:\\a b"), (f" {NAME} ", NAME)],
)
def test_what_is_written_there(written: str | None, means: str | None) -> None:
    assert by_hand.named_model(written) == means


def test_the_field_is_connected(tab: Tab, tmp_path: Path) -> None:
    async def build() -> gr.Blocks:
        # Gradio asks for the event loop while it builds; as in the server, there is one.
        return build_app(tab.service, fake_settings(tmp_path), model=tab.request.model)

    app = asyncio.run(build())
    wired = {
        event: function.fn
        for function in app.fns.values()
        for target, event in function.targets
        if target in app.blocks and app.blocks[target].elem_id == "base"
    }
    assert set(wired) == {"blur", "submit"}, "half a name is not looked for"
    for tab_name, act in wired.items():
        assert act is not None
        request: Any = SimpleNamespace(session_hash=tab_name)
        sent = act(request, f' "{tab.llava}" ')
        assert any(f"base={tab.llava}" in str(update) for update in sent)
        again = act(request, f' "{tab.llava}" ')
        assert not any("base=" in str(update) for update in again), "what is set already changes nothing"
        sent = act(request, "")
        assert not any(f"base={tab.llava}" in str(update) for update in sent)
