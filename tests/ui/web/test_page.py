"""The page's handlers against the in-memory service: questions, answers, turns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backends.errors import (
    ContextExceeded,
    DoesNotFit,
    ImageUnreadable,
    InternalError,
    SettingInvalid,
    WorkerCrashed,
)
from backends.messages import SamplingParams
from backends.placement.types import PlanRequest
from tests.support.tab import ASKED, Tab, given
from ui.web import chat_flow
from ui.web.answering import answer, import_pictures


def test_a_question_is_answered_and_the_box_is_empty(tab: Tab, picture: Path) -> None:
    tab.load()
    outputs = tab.ask("What is it?", picture)
    leaving = json.loads(outputs[3])
    assert (leaving["text"], leaving["files"]) == ("What is it?", [str(picture)])
    assert "value" not in given(outputs[2]), "what was written since stays"
    tab.stream(system="Be brief.", temperature=0, max_tokens=16, seed="7")
    (_, messages, drawing), turn = tab.service.asked[0], tab.session.turns[0]
    assert [message.role for message in messages] == ["system", "user"]
    assert len(messages[1].images) == 1
    assert drawing == SamplingParams(0.0, 1.0, 16, 7)
    assert (turn.answer, turn.status) == ("The answer is **three**.", "done")
    assert not tab.session.answering


def test_a_second_question_waits_for_the_first(tab: Tab) -> None:
    tab.load()
    tab.ask("one")
    tab.ask("two")
    assert len(tab.session.turns) == 1


@pytest.mark.parametrize("text", ["", "   \n "])
def test_nothing_is_not_a_question(tab: Tab, text: str) -> None:
    tab.ask(text)
    assert tab.session.turns == ()


def test_a_broken_picture_stays_out_and_the_draft_stays(tab: Tab, picture: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    outputs = tab.ask("What is it?", picture, broken)
    leaving = json.loads(outputs[3])
    assert (leaving["text"], leaving["files"]) == ("", [str(broken)])
    assert tab.session.turns == ()
    assert tab.session.error is not None
    assert "broken.png" in str(tab.session.error)


def test_a_picture_is_prepared_while_the_person_types(tab: Tab, picture: Path) -> None:
    tab.load()
    draft: dict[str, Any] = {"text": "", "files": [str(picture)]}
    tab.handlers.draft_changed(draft, None, tab.request)
    draft["text"] = "Wha"
    tab.handlers.draft_changed(draft, None, tab.request)
    assert len(tab.service.primed) == 1
    session, messages = tab.service.primed[0]
    assert session == tab.session.ident
    assert messages[-1].text == ""
    assert len(messages[-1].images) == 1
    tab.handlers.draft_changed({"text": "Wha", "files": []}, None, tab.request)
    assert tab.service.unprimed == [tab.session.ident]


def test_a_picture_added_during_an_answer_is_prepared_after_it(tab: Tab, picture: Path) -> None:
    tab.load()
    tab.ask("one")
    tab.handlers.draft_changed({"text": "", "files": [str(picture)]}, None, tab.request)
    assert tab.service.primed == []
    tab.stream()
    assert [message.role for message in tab.service.primed[0][1]] == ["user", "assistant", "user"]


def test_a_picture_waits_for_a_model_that_is_loading(tab: Tab, picture: Path) -> None:
    loading = tab.service.load(tab.service.plan(PlanRequest("starter")))
    next(loading)
    tab.handlers.draft_changed({"text": "", "files": [str(picture)]}, None, tab.request)
    assert len(tab.service.primed) == 1


def test_an_unreadable_file_goes_from_the_box_and_takes_no_words_with_it(tab: Tab, tmp_path: Path) -> None:
    tab.load()
    document = tmp_path / "notes.pdf"
    document.write_bytes(b"%PDF-1.4")
    sent = tab.handlers.draft_changed({"text": "go", "files": [str(document)]}, None, tab.request)
    # Not the box's value: the person may have written more meanwhile.
    assert json.loads(sent[0])["files"] == [str(document)]
    assert json.loads(sent[0])["text"] == ""
    assert isinstance(tab.session.error, ImageUnreadable)
    again = tab.handlers.draft_changed({"text": "go", "files": [str(document)]}, None, tab.request)
    assert again[0] != sent[0], "the page hears of it each time"
    # Asked before the page has taken it out: it has been said, the question goes without it.
    tab.handlers.submit({"text": "go on", "files": [str(document)]}, tab.request)
    assert tab.session.turns[-1].question.text == "go on"
    assert not tab.session.turns[-1].question.images


def test_a_picture_is_read_once(tab: Tab, picture: Path) -> None:
    import_pictures(tab.context, tab.session, [str(picture)])
    picture.unlink()
    readable, error = import_pictures(tab.context, tab.session, [str(picture)])
    assert (readable, error) == ([str(picture)], None)


def test_an_answer_breaks_off_and_keeps_its_words(tab: Tab) -> None:
    tab.load()
    tab.service.hold = True
    tab.ask("one")
    redraws = answer(tab.context, tab.session, None, SamplingParams)
    next(redraws)
    next(redraws)
    tab.service.crash()
    assert list(redraws) == []
    turn = tab.session.turns[-1]
    assert (turn.status, turn.answer) == ("failed", "The ")
    assert isinstance(tab.session.error, WorkerCrashed)


def test_a_wrong_seed_is_said_and_the_question_stays(tab: Tab) -> None:
    tab.load()
    tab.ask("one")
    tab.stream(seed="many")
    assert isinstance(tab.session.error, SettingInvalid)
    assert tab.session.turns[-1].status == "failed"
    assert tab.service.asked == []


def test_a_mistake_of_ours_does_not_leave_the_tab_waiting(
    tab: Tab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def slip(*_: object) -> None:
        raise IndexError

    tab.load()
    monkeypatch.setattr(tab.service, "chat", slip)
    tab.ask("one")
    tab.stream()
    assert isinstance(tab.session.error, InternalError)
    assert "IndexError" in str(tab.session.error)
    assert not tab.session.answering
    assert "an answer broke off" in caplog.text


def test_stopping_before_the_model_is_there(tab: Tab) -> None:
    tab.service.load_hold = True
    tab.loader.start_with(PlanRequest("starter"))
    tab.ask("one")
    tab.session.begin()
    redraws = answer(tab.context, tab.session, None, SamplingParams)
    tab.handlers.stop(tab.request)
    assert list(redraws) == []
    assert tab.session.turns[-1].status == "done"


def test_why_a_load_failed_says_more_than_that_nothing_is_loaded(tab: Tab) -> None:
    tab.service.fail_with = DoesNotFit(model="m", preset="high", detail="Too big.", suggestion="Take less.")
    tab.loader.start_with(PlanRequest("starter"))
    tab.ask("one")
    tab.stream()
    assert isinstance(tab.session.error, DoesNotFit)


@pytest.mark.parametrize(
    ("action", "turn", "text", "expected"),
    [
        ("regenerate", 1, "", ["one", "two"]),
        ("edit", 0, "uno", ["uno"]),
        ("edit", 0, "  ", ["one", "two"]),
        ("delete", 0, "", ["two"]),
        ("delete", 7, "", ["one", "two"]),
        ("delete", -1, "", ["one", "two"]),
        ("explode", 0, "", ["one", "two"]),
        ("example", 99, "", ["one", "two"]),
    ],
)
def test_buttons_of_a_turn(tab: Tab, action: str, turn: int, text: str, expected: list[str]) -> None:
    tab.load()
    for asked in ("one", "two"):
        tab.ask(asked)
        tab.stream()
    tab.act(action, turn, text)
    assert [turn.question.text for turn in tab.session.turns] == expected


@pytest.mark.parametrize("action", ["delete", "edit"])
def test_a_second_press_on_the_same_turn_does_nothing(tab: Tab, action: str) -> None:
    tab.load()
    for asked in ("one", "two", "three"):
        tab.ask(asked)
        tab.stream()
    ident = tab.session.turns[0].ident
    tab.press(action, ident, "other words")
    tab.stream()
    once = tab.session.turns
    tab.press(action, ident, "other words")
    assert tab.session.turns == once


def test_a_stop_right_after_the_question_counts(tab: Tab) -> None:
    tab.load()
    tab.ask("one")
    tab.handlers.stop(tab.request)
    tab.stream()
    assert tab.session.turns[-1].status == "done"
    assert tab.service.asked == []
    tab.ask("two")
    tab.stream()
    assert [turn.status for turn in tab.session.turns] == ["done", "done"]
    assert len(tab.service.asked) == 1


def test_the_stop_button_is_there_from_the_question_on(tab: Tab) -> None:
    tab.load()
    assert given(tab.ask("one")[2]) == {"submit_btn": False, "stop_btn": True}
    assert given(tab.stream()[-1][2]) == {"submit_btn": True, "stop_btn": False}


def test_an_example_asks_its_question_and_leaves_the_draft_alone(tab: Tab, picture: Path) -> None:
    tab.load()
    tab.handlers.draft_changed({"text": "", "files": [str(picture)]}, None, tab.request)
    tab.act("example", 0)
    assert tab.session.turns[0].question.text == tab.context.examples[0].question
    assert list(tab.session.draft_images) == [str(picture)]


def test_a_new_conversation_stops_the_running_answer_and_takes_it_away(tab: Tab) -> None:
    tab.load()
    tab.ask("one")
    tab.session.begin()
    tab.handlers.clear(tab.request)
    assert tab.session.stopping.is_set()
    assert len(tab.session.turns) == 1
    tab.session.end()
    assert tab.session.turns == ()
    # The next answer is not swept away with it.
    tab.ask("two")
    tab.stream()
    assert len(tab.session.turns) == 1
    tab.handlers.clear(tab.request)
    assert tab.session.turns == ()


@pytest.mark.parametrize(
    ("draft", "box"),
    [("", {"text": "one", "files": []}), ("typed meanwhile", None)],
    ids=["the question comes back", "a newer draft stays"],
)
def test_a_conversation_that_got_too_long_ends_without_losing_words(
    draft: str, box: dict[str, Any] | None, tab: Tab
) -> None:
    too_long = ContextExceeded(needed_tokens=5000, context_tokens=2048)
    tab.session.turns, tab.session.error = chat_flow.fail(ASKED, too_long), too_long
    outputs = tab.handlers.act({"text": draft, "files": []}, tab.request)
    assert tab.session.turns == ()
    assert given(outputs[2]).get("value") == box
