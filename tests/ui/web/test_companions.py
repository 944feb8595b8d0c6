"""What a checkpoint leans on: named on the page where that means something, shown once it was found."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from backends.errors import SnugError
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from tests.support.fake_service import fake_settings
from tests.support.planning_tab import Tab
from ui.i18n import LANGUAGES, Translator
from ui.overrides import parse_overrides, to_settings
from ui.web import kept
from ui.web.app import build_app
from ui.web.format import made_of
from ui.web.planning import change, make_plan, restore, settle
from ui.web.redrawing import above_plan

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
COGVLM, LLAVA, LORA = "cogvlm-chat", "llava-v1.5-full", "llava-v1.5-lora"
FIELDS = ("base", "vision_tower", "tokenizer", "template")
NAMED = Overrides(base="/a", vision_tower="openai/clip", tokenizer="D:\\w b", template="vqa")


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    made = Tab(tmp_path)
    yield made
    made.service.close()


def checkpoint(fixture: str, pattern: str) -> Path:
    return next(iter(sorted((FIXTURES / fixture / "checkpoint").glob(pattern))))


def alone(fixture: str, pattern: str, home: Path) -> Path:
    """A copy without anything beside it."""
    return shutil.copytree(checkpoint(fixture, pattern), home / "alone 独" / "it")


def seen(drawn: dict[str, Any]) -> set[str]:
    return {field for field in FIELDS if drawn.get(field, {}).get("visible")}


@pytest.mark.parametrize(
    ("fixture", "pattern", "fields"),
    [
        (LLAVA, "llava-*-tiny", {"vision_tower", "template"}),
        (LORA, "*-lora", {"base", "vision_tower", "template"}),
        (COGVLM, "cogvlm-*", {"tokenizer", "template"}),
        ("cogvlm2-llama3-chat", "cogvlm2-*", {"template"}),
        (LORA, "vicuna-*", set()),
        ("chatglm3-6b", "chatglm3-*", set()),
    ],
)
def test_a_field_is_seen_where_it_means_something(
    fixture: str, pattern: str, fields: set[str], tab: Tab
) -> None:
    tab.session.request = PlanRequest(str(checkpoint(fixture, pattern)))
    assert seen(tab.draw()) == fields


def test_what_was_found_stands_in_the_empty_field_and_in_the_card(tab: Tab) -> None:
    tab.session.request = PlanRequest(str(checkpoint(LORA, "*-lora")))
    drawn = tab.draw()
    assert drawn["base"]["placeholder"].endswith("vicuna-7b-v1.5-tiny")
    assert drawn["vision_tower"]["placeholder"].endswith("clip-vit-tiny-patch14-56")
    assert not drawn["tokenizer"]["visible"], "it is the base's"
    plan = make_plan(tab.context, tab.request)
    assert isinstance(plan, Plan)
    card = made_of(plan, Translator("en"))
    assert "<dt>Base model</dt><dd>" in card
    assert "clip-vit-tiny-patch14-56</dd>" in card
    assert "Tokenizer" not in card
    assert "<dt>Conversation format</dt><dd>v1 (found by Snug)</dd>" in card
    assert "<dt>对话格式</dt><dd>v1（由 Snug 识别）</dd>" in made_of(plan, Translator("zh"))


def test_a_whole_model_is_made_of_nothing_else(tab: Tab) -> None:
    plan = make_plan(tab.context, tab.request)
    assert isinstance(plan, Plan)
    assert made_of(plan, Translator("en")) == ""
    assert seen(tab.draw()) == set()


@pytest.mark.parametrize(
    ("fixture", "pattern", "field", "found"),
    [
        (LLAVA, "llava-*-tiny", "vision_tower", "openai/clip-*"),
        (LORA, "*-lora", "base", "vicuna-*"),
    ],
)
def test_what_is_absent_can_be_named(  # noqa: PLR0917 - a table
    fixture: str, pattern: str, field: str, found: str, tab: Tab, tmp_path: Path
) -> None:
    tab.session.request = PlanRequest(str(alone(fixture, pattern, tmp_path)))
    assert isinstance(make_plan(tab.context, tab.request), SnugError)
    assert field in seen(tab.draw())
    named = Overrides(
        **{field: str(checkpoint(fixture, found))},
        **({"vision_tower": str(checkpoint(fixture, "openai/clip-*"))} if field == "base" else {}),
    )
    change(tab.context, tab.session, named)
    assert isinstance(make_plan(tab.context, tab.request), Plan)
    drawn = tab.draw(field)
    assert re.search(f'--set "?{field}=', drawn["command"]["value"])  # quoted where a path has a space
    assert "Vision tower" in drawn["intro"]["value"]


def test_a_tokenizer_can_be_named_where_none_is_beside(tab: Tab, tmp_path: Path) -> None:
    tab.session.request = PlanRequest(str(alone(COGVLM, "cogvlm-*", tmp_path)))
    assert seen(tab.draw()) == {"tokenizer", "template"}
    words = checkpoint(COGVLM, "vicuna-*")
    change(tab.context, tab.session, Overrides(tokenizer=str(words)))
    plan = make_plan(tab.context, tab.request)
    assert isinstance(plan, Plan)
    assert f"<dd>{words}</dd>" in made_of(plan, Translator("en"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_format_is_chosen_among_those_it_may_have(tab: Tab, language: Any) -> None:
    tab.session.language, say = language, Translator(language)
    tab.session.request = PlanRequest(str(checkpoint(COGVLM, "cogvlm-*")))
    drawn = tab.draw()["template"]
    assert drawn["choices"] == [
        (say("custom.found_named", name="chat"), ""), ("chat", "chat"), ("vqa", "vqa"), ("base", "base"),
    ]  # fmt: skip
    assert say("custom.template") in drawn["label"]
    change(tab.context, tab.session, Overrides(template="vqa"))
    drawn = tab.draw()
    assert drawn["template"]["choices"][0] == (say("custom.found"), "")
    assert drawn["template"]["value"] == "vqa"
    assert say("custom.template") in drawn["intro"]["value"]
    plan = make_plan(tab.context, tab.request)
    assert isinstance(plan, Plan)
    assert say("plan.by_hand", name="vqa") in made_of(plan, say)


def test_a_format_that_there_is_not_stays_to_be_corrected(tab: Tab) -> None:
    tab.session.request = PlanRequest(
        str(checkpoint(COGVLM, "cogvlm-*")), overrides=Overrides(template="nonsense")
    )
    assert isinstance(make_plan(tab.context, tab.request), SnugError)
    drawn = tab.draw()["template"]
    assert drawn["visible"]
    assert ("nonsense", "nonsense") in drawn["choices"]


def test_another_model_takes_none_of_them_over_and_says_so(tab: Tab) -> None:
    tab.session.request = PlanRequest("/gone", overrides=replace(NAMED, context_tokens=1024))
    settle(tab.context, tab.session, tab.llava, Preset.AUTO)
    assert tab.request.overrides == Overrides(context_tokens=1024)
    said = above_plan(tab.session)
    for name in ("Base model", "Vision tower", "Tokenizer", "Conversation format"):
        assert f"{name}: back to automatic, because it was for another model." in said


def test_they_are_written_as_settings_and_kept_for_the_next_visit() -> None:
    assert parse_overrides(to_settings(NAMED)) == NAMED
    asked = PlanRequest("m", Preset.CUSTOM, NAMED)
    assert kept.from_text(kept.to_text(asked)) == asked


@pytest.mark.parametrize(
    "overrides",
    [Overrides(template="vqa"), Overrides(tokenizer="/gone"), Overrides(template="nonsense"), Overrides()],
    ids=["a format", "a folder that has gone", "a format that there is not", "none"],
)
def test_the_next_visit_begins_with_them(overrides: Overrides, tab: Tab) -> None:
    tab.context = replace(tab.context, start=PlanRequest("starter"))
    tab.session.request = PlanRequest("starter")
    asked = PlanRequest(str(checkpoint(COGVLM, "cogvlm-*")), Preset.AUTO, overrides)
    restore(tab.context, tab.session, kept.to_text(asked))
    assert tab.request == asked


def test_a_model_that_is_gone_does_not_come_back_with_its_companions(tab: Tab) -> None:
    tab.context = replace(tab.context, start=PlanRequest("starter"))
    tab.session.request = PlanRequest("starter")
    restore(tab.context, tab.session, kept.to_text(PlanRequest("/gone", Preset.AUTO, NAMED)))
    assert tab.request == PlanRequest("starter")
    assert "is not there any more" in above_plan(tab.session)


def test_the_fields_are_connected(tab: Tab, tmp_path: Path) -> None:
    model = str(checkpoint(COGVLM, "cogvlm-*"))

    async def build() -> gr.Blocks:
        # Gradio asks for the event loop while it builds; as in the server, there is one.
        return build_app(tab.service, fake_settings(tmp_path), model=model)

    app = asyncio.run(build())
    wired = {
        (app.blocks[target].elem_id, event): function.fn
        for function in app.fns.values()
        for target, event in function.targets
        if target in app.blocks and app.blocks[target].elem_id in ("vision-tower", "tokenizer", "template")
    }
    assert set(wired) == {
        ("vision-tower", "blur"), ("vision-tower", "submit"), ("tokenizer", "blur"), ("tokenizer", "submit"),
        ("template", "input"),
    }  # fmt: skip
    request: Any = SimpleNamespace(session_hash="one")
    for (element, event), value in (
        (("tokenizer", "blur"), str(checkpoint(COGVLM, "vicuna-*"))), (("template", "input"), "vqa"),
    ):  # fmt: skip
        act = wired[element, event]
        assert act is not None
        assert any(f"{element}={value}" in str(update) for update in act(request, value))
        assert not any(f"{element}={value}" in str(update) for update in act(request, ""))
