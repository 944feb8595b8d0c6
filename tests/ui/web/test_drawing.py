"""What a panel sends: changes only, and each written value is waited for once, if the browser tells of it."""

from __future__ import annotations

from ui.web.drawing import Shown, updates
from ui.web.sessions import Session

FIELD = "custom.offload_dir="


def draw(session: Session, value: str, *touched: str) -> dict[str, object]:
    (sent,) = updates("custom", ["offload_dir"], {"offload_dir": Shown({}, value)}, session, touched)
    return dict(sent)


def test_what_is_shown_already_is_not_sent_again() -> None:
    session = Session("tab")

    assert draw(session, "/a")["value"] == "/a"
    assert "value" not in draw(session, "/a")


def test_what_a_person_is_writing_is_left_alone() -> None:
    session = Session("tab")

    assert "value" not in draw(session, "/a", "offload_dir")
    assert session.written == {}


def test_emptying_a_field_is_a_persons_doing_though_the_page_began_it_empty() -> None:
    session = Session("tab")
    draw(session, "")
    draw(session, "/weights", "offload_dir")  # a person wrote it

    assert not session.is_echo(FIELD, "")


def test_a_field_that_the_page_emptied_tells_of_it_once() -> None:
    session = Session("tab")
    draw(session, "/weights", "offload_dir")
    draw(session, "")  # reset
    draw(session, "/other", "offload_dir")

    assert session.is_echo(FIELD, "")
    assert not session.is_echo(FIELD, "")
