"""Conversations of tabs: kept apart, kept over a reload, copied with their tab."""

from __future__ import annotations

from tests.support.tab import ASKED
from ui.web import chat_flow
from ui.web.sessions import Session, Sessions


def test_tabs_keep_apart_and_a_reload_keeps_the_conversation() -> None:
    sessions = Sessions()
    first, other = sessions.of("a"), sessions.of("b")
    assert first.ident != other.ident
    assert sessions.of("a") is first
    sessions.adopt(first, "tab 1")
    first.turns = ASKED
    sessions.close("a")
    again = sessions.of("c")
    sessions.adopt(again, "tab 1")
    assert [turn.question for turn in again.turns] == [turn.question for turn in ASKED]
    assert not chat_flow.waiting(again.turns)
    assert other.turns == ()


def test_a_page_that_reloads_before_it_is_seen_to_leave_gets_its_newest_conversation() -> None:
    sessions = Sessions()
    old, again = sessions.of("a"), sessions.of("b")
    sessions.adopt(old, "tab 1")
    old.begin()
    old.turns = ASKED
    sessions.adopt(again, "tab 1")
    sessions.close("a")
    again.begin()
    again.turns = (*again.turns, *ASKED)
    last = sessions.of("c")
    sessions.adopt(last, "tab 1")
    assert len(last.turns) == 2


def test_a_duplicated_tab_gets_a_copy_and_reloads_its_own() -> None:
    sessions = Sessions()
    first, twin = sessions.of("a"), sessions.of("b")
    sessions.adopt(first, "tab 1")
    first.turns = ASKED
    sessions.adopt(twin, "tab 2", source="tab 1")
    assert len(twin.turns) == 1
    first.begin()
    first.turns = (*ASKED, *ASKED)
    twin.begin()
    twin.turns = ()
    sessions.close("a")
    again = sessions.of("c")
    sessions.adopt(again, "tab 1")
    assert len(again.turns) == 2


def test_a_copy_of_a_closed_tab_leaves_it_its_conversation() -> None:
    sessions = Sessions()
    first = sessions.of("a")
    sessions.adopt(first, "tab 1")
    first.turns = ASKED
    sessions.close("a")
    for number, (tab, source) in enumerate((("tab 2", "tab 1"), ("tab 1", "tab 1"))):
        session = sessions.of(f"new {number}")
        sessions.adopt(session, tab, source)
        assert len(session.turns) == 1


def test_only_so_many_closed_tabs_are_remembered() -> None:
    sessions = Sessions()
    for number in range(60):
        session = sessions.of(str(number))
        sessions.adopt(session, f"tab {number}")
        session.turns = ASKED
        sessions.close(str(number))
    late, early = sessions.of("x"), sessions.of("y")
    sessions.adopt(late, "tab 59")
    sessions.adopt(early, "tab 0")
    assert late.turns
    assert early.turns == ()


def test_one_answer_at_a_time() -> None:
    session = Session("one")
    assert session.begin()
    assert not session.begin()
    session.end()
    assert session.begin()


FIELD = "custom.map_text="


def test_what_the_page_wrote_comes_back_once_and_is_no_persons_doing() -> None:
    session = Session("tab")
    session.changed(FIELD, "first")
    session.write(FIELD, "first")
    session.changed(FIELD, "second")
    session.write(FIELD, "second")

    assert session.is_echo(FIELD, "first")  # a slow browser tells of it only now
    assert session.is_echo(FIELD, "second")
    assert session.is_echo(FIELD, "second")  # it stands there: nothing changed
    assert not session.is_echo(FIELD, "first")  # a person went back to it


def test_a_late_echo_does_not_undo_what_a_person_wrote_since() -> None:
    session = Session("tab")
    session.changed(FIELD, "the plan's")
    session.write(FIELD, "the plan's")
    assert not session.is_echo(FIELD, "a person's")
    session.changed(FIELD, "a person's")

    assert session.is_echo(FIELD, "the plan's")


def test_another_field_has_echoes_of_its_own() -> None:
    session = Session("tab")
    session.write(FIELD, "here")

    assert not session.is_echo("custom.offload_dir=", "here")


def test_echoes_that_never_come_are_forgotten() -> None:
    session = Session("tab")
    for number in range(100):
        session.write(FIELD, number)

    assert len(session.written[FIELD]) < 10
    assert not session.is_echo(FIELD, 0)
