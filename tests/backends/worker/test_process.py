"""How the child groups what it says."""

from __future__ import annotations

from backends.messages import Event, Progress, TextDelta
from backends.worker.process import Outbox


class Pipe:
    def __init__(self) -> None:
        self.sent: list[tuple[Event, ...]] = []
        self.now = 0.0
        self.outbox = Outbox(self.sent.append, lambda: self.now)

    def say(self, at: float, *texts: str) -> None:
        self.now = at
        for text in texts:
            self.outbox.add(TextDelta(text))


def test_the_first_piece_leaves_at_once() -> None:
    pipe = Pipe()
    pipe.say(0.0, "a")
    assert pipe.sent == [(TextDelta("a"),)]


def test_pieces_slower_than_a_screen_leave_at_once() -> None:
    pipe = Pipe()
    for index in range(3):
        pipe.say(index * 0.1, str(index))
    assert len(pipe.sent) == 3


def test_pieces_faster_than_a_screen_travel_together() -> None:
    pipe = Pipe()
    pipe.say(0.0, "a", "b", "c")
    pipe.say(0.1, "d")
    assert pipe.sent == [(TextDelta("a"),), (TextDelta("bcd"),)]


def test_other_events_leave_at_once_after_the_text_before_them() -> None:
    pipe = Pipe()
    pipe.say(0.0, "a", "b")
    pipe.outbox.add(Progress("prefill", 1, 2))
    assert pipe.sent[-1] == (TextDelta("b"), Progress("prefill", 1, 2))


def test_the_rest_leaves_when_the_answer_breaks_off() -> None:
    pipe = Pipe()
    pipe.say(0.0, "a", "b")
    pipe.outbox.flush()
    pipe.outbox.flush()
    assert pipe.sent == [(TextDelta("a"),), (TextDelta("b"),)]
