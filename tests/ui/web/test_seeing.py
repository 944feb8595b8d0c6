"""Models that read text only: what concerns pictures goes out of sight, and a draft's pictures wait."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.errors import ModelNotFound
from backends.models.types import ModelInfo
from backends.placement.types import Overrides, PlanRequest
from tests.support.fake_service import FAKE_MODEL
from tests.support.planning_tab import Tab as PlanningTab
from tests.support.tab import Tab
from ui.i18n import LANGUAGES, Translator
from ui.web import chat_flow
from ui.web.examples import Example
from ui.web.planning import change
from ui.web.seeing import remark, sees
from ui.web.transcript import live_html
from ui.web.wiring_model import refresh

READER = replace(FAKE_MODEL, vision=None)
EN = Translator("en")


def by_name(model: str, _named: Overrides | None = None) -> ModelInfo:
    if model == "gone":
        raise ModelNotFound(path=model, detail="It is gone.")
    return READER if model == "reader" else FAKE_MODEL


@pytest.fixture
def tab(tab: Tab, monkeypatch: pytest.MonkeyPatch) -> Tab:
    monkeypatch.setattr(tab.service, "inspect", by_name)
    return tab


def load(tab: Tab, model: str) -> None:
    for _ in tab.service.load(tab.service.plan(PlanRequest(model))):
        pass


@pytest.mark.parametrize(
    ("loaded", "chosen", "seeing"),
    [
        (None, "starter", True),
        (None, "reader", False),
        ("reader", "starter", False),
        ("starter", "reader", True),
        (None, "gone", True),
        ("reader", "gone", False),
    ],
)
def test_who_answers_decides(loaded: str | None, chosen: str, seeing: bool, tab: Tab) -> None:
    if loaded is not None:
        load(tab, loaded)
    tab.session.request = PlanRequest(chosen)
    assert sees(tab.context, tab.session) is seeing


def test_while_it_loads_it_counts_already_and_afterwards_no_more(tab: Tab) -> None:
    steps = tab.service.load(tab.service.plan(PlanRequest("reader")))
    next(steps)
    assert not sees(tab.context, tab.session)
    for _ in steps:
        pass
    tab.service.unload()
    assert sees(tab.context, tab.session)


def test_what_was_loaded_without_eyes_has_none_though_its_files_have_some_by_now(tab: Tab) -> None:
    load(tab, "starter")
    tab.service._state.report = replace(tab.service.state().report, supports_images=False)
    assert not sees(tab.context, tab.session)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_person_is_told_what_becomes_of_pictures(language: Any, tab: Tab, picture: Path) -> None:
    say = Translator(language)
    assert "sn-text-only" not in remark(tab.session, say, seeing=True)
    assert say("chat.placeholder") in remark(tab.session, say, seeing=True)
    alone = remark(tab.session, say, seeing=False)
    assert say("chat.text_only") in alone
    assert say("chat.placeholder_text") in alone
    image = tab.service.import_image(picture, "a picture")
    tab.session.turns = chat_flow.ask((), chat_flow.question("What?", (image,)))
    assert say("chat.text_only_before") in remark(tab.session, say, seeing=False)
    tab.session.draft_images = {str(picture): image}
    assert say("chat.text_only_draft") in remark(tab.session, say, seeing=False)


def test_the_page_hears_of_it_with_the_tick(tab: Tab) -> None:
    assert "sn-text-only" not in str(refresh(tab.context, tab.session))  # type: ignore[arg-type]
    load(tab, "reader")
    assert "sn-text-only" in str(refresh(tab.context, tab.session))  # type: ignore[arg-type]
    assert "sn-text-only" not in str(refresh(tab.context, tab.session)), "said once"  # type: ignore[arg-type]
    load(tab, "starter")
    assert "data-placeholder" in str(refresh(tab.context, tab.session))  # type: ignore[arg-type]


def test_a_drafts_picture_waits_in_the_box_for_a_model_that_sees(tab: Tab, picture: Path) -> None:
    load(tab, "reader")
    tab.handlers.draft_changed({"text": "", "files": [str(picture)]}, None, tab.request)
    assert tab.service.primed == [], "it would look at nothing"
    leaving = json.loads(tab.ask("What is two and two?", picture)[3])
    assert (leaving["text"], leaving["files"]) == ("What is two and two?", [])
    assert tab.session.turns[-1].question.images == ()
    tab.stream()
    assert tab.service.primed == []
    tab.ask("", picture)
    assert len(tab.session.turns) == 1, "a picture alone is no question for it"

    load(tab, "starter")
    leaving = json.loads(tab.ask("And this?", picture)[3])
    assert leaving["files"] == [str(picture)]
    assert len(tab.session.turns[-1].question.images) == 1
    assert tab.session.draft_images == {}


def test_what_cannot_be_read_leaves_the_box_all_the_same(tab: Tab, picture: Path, tmp_path: Path) -> None:
    load(tab, "reader")
    broken = tmp_path / "notes.pdf"
    broken.write_bytes(b"%PDF-1.4")
    assert json.loads(tab.ask("One", picture, broken)[3])["files"] == [str(broken)]
    assert json.loads(tab.ask("One", picture, broken)[3])["files"] == [str(broken)]
    assert len(tab.session.turns) == 1
    assert list(tab.session.draft_images) == [str(picture)]


def test_an_empty_conversation_has_words_for_both() -> None:
    example = Example(Path("/e.png"), {"en": "Shapes", "zh": "图形"}, "How many?")
    html = live_html((), (example,), EN, busy=False)
    seeing, _, reading = html.partition('class="sn-reading"')
    assert "Shapes" in seeing
    assert "Ask a picture" in seeing
    assert "picture" not in reading
    assert 'role="heading"' in reading


def test_custom_has_no_fields_for_pictures_then(tmp_path: Path) -> None:
    tab = PlanningTab(tmp_path)
    try:
        assert tab.draw()["images"]["visible"]
        tab.session.request = PlanRequest(tab.text)
        drawn = tab.draw()
        assert not drawn["images"]["visible"]
        change(tab.context, tab.session, Overrides(images=2))
        drawn = tab.draw()["images"]
        assert drawn["visible"], "what is set can be corrected"
        assert drawn["info"] == EN("custom.text_only")
    finally:
        tab.service.close()
