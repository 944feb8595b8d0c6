"""What is handed on of a request under way, and when: a library that says what the test tells it to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from threading import Event as Flag
from typing import Any

import pytest

from backends.engines.llamacpp.answer import Answer
from backends.engines.llamacpp.exchange import Ended, Exchange, Heard, Reading, Refused, Said
from backends.messages import Done, TextDelta

Chunk = dict[str, Any]
READ: Chunk = {"prompt_progress": {"processed": 4, "total": 4, "cache": 0}}
ENDED: Chunk = {"choices": [{"delta": {}, "finish_reason": "length"}]}
USAGE: Chunk = {"choices": [], "usage": {"completion_tokens": 4, "prompt_tokens": 4}}


def piece(text: str, count: int) -> Chunk:
    """One token, as the library tells of it."""
    token = {"id": ord(text[-1]), "bytes": [*text.encode()]}
    return {
        "choices": [{"delta": {"content": text}, "logprobs": {"content": [token]}}],
        "timings": {"predicted_n": count},
    }


class Library:
    """Says `chunks`, each at its time of `clock`, until it is stopped; raises `error` last."""

    def __init__(
        self,
        chunks: Sequence[tuple[float, Chunk]],
        error: Exception | None = None,
        before: Flag | None = None,
    ) -> None:
        self._chunks, self._error, self._before, self._now = chunks, error, before, 0.0
        self.said = 0

    def clock(self) -> float:
        return self._now

    def ask(self, _body: object, hear: Callable[[Chunk], bool]) -> None:
        if self._before is not None:
            self._before.wait()
        for at, chunk in self._chunks:
            self._now = at
            self.said += 1
            if hear(chunk):
                return
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Nothing to give back."""


def exchange(library: Library, cancel: Flag | None = None) -> Exchange:
    """A request to it."""
    return Exchange(library, {}, cancel=cancel, clock=library.clock)  # type: ignore[arg-type]


def heard(under_way: Exchange) -> Iterator[Heard]:
    """Everything, to the end."""
    while True:
        one = under_way.next(10.0)
        assert one is not None
        yield one
        if isinstance(one, Ended | Refused):
            return


def groups(library: Library) -> list[str]:
    """The text as it is handed on."""
    said = [one.pieces for one in heard(exchange(library)) if isinstance(one, Said)]
    return ["".join(piece.text for piece in pieces) for pieces in said]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        pytest.param(
            (1.0, 1.03, 1.06, 1.09, 1.12), ["a", "bc", "de"], id="thirty tokens a second: every other"
        ),
        pytest.param((1.0, 1.2, 1.4, 1.6, 1.8), ["a", "b", "c", "d", "e"], id="five a second: each at once"),
        pytest.param((1.0, 1.01, 1.02, 1.03, 1.04), ["a", "bcde"], id="the rest leaves with the end"),
        pytest.param((1.0, 1.01, 9.0, 9.01, 9.02), ["a", "bc", "de"], id="after a pause"),
    ],
)
def test_pieces_wait_for_each_other_but_the_first(times: Sequence[float], expected: list[str]) -> None:
    chunks = [
        (at, piece(text, count)) for count, (at, text) in enumerate(zip(times, "abcde", strict=True), 1)
    ]
    assert groups(Library([(0.99, READ), *chunks, (times[-1], ENDED)])) == expected


def test_every_piece_keeps_its_own_token_and_time() -> None:
    library = Library([(0.0, READ), (1.0, piece("a", 1)), (1.01, piece("b", 2)), (1.02, piece("c", 3))])
    pieces = [one for said in heard(exchange(library)) if isinstance(said, Said) for one in said.pieces]
    assert [(one.token, one.count, one.at) for one in pieces] == [(97, 1, 1.0), (98, 2, 1.01), (99, 3, 1.02)]


@pytest.mark.parametrize(
    "library",
    [
        pytest.param(
            Library([(1.0, piece("a", 1)), (1.01, piece("b", 2)), (1.01, {"error": {"message": "no"}})]),
            id="an error document",
        ),
        pytest.param(
            Library([(1.0, piece("a", 1)), (1.01, piece("b", 2))], RuntimeError("no")), id="an exception"
        ),
        pytest.param(
            Library([(1.0, piece("a", 1)), (1.01, piece("b", 2)), (1.01, {"choices": [{}]})]),
            id="a chunk that nobody understands",
        ),
    ],
)
def test_what_was_kept_back_comes_before_a_mistake(library: Library) -> None:
    *said, last = heard(exchange(library))
    assert "".join(one.text for group in said if isinstance(group, Said) for one in group.pieces) == "ab"
    assert isinstance(last, Refused)


def test_a_cancel_is_seen_at_the_next_token() -> None:
    cancel = Flag()
    library = Library([(1.0, READ), (1.0, piece("a", 1)), (1.01, piece("b", 2))], before=cancel)
    under_way = exchange(library, cancel)
    cancel.set()
    assert [*heard(under_way)] == [Ended(None)]
    assert library.said == 1


def test_reading_is_told_at_once() -> None:
    library = Library([(1.0, READ), (1.0, READ), (1.0, piece("a", 1))])
    kinds = [type(one) for one in heard(exchange(library))]
    assert kinds == [Reading, Reading, Said, Ended]


@pytest.mark.parametrize("room", [1, 2, 3, 4])
def test_an_answer_ends_within_a_group(room: int) -> None:
    chunks = [(1.0 + count / 100, piece(text, count)) for count, text in enumerate("abcdef", 1)]
    library = Library([(1.0, READ), *chunks])
    answer = Answer(begun=0.0, max_tokens=room, context_tokens=99, image_tokens=0, fragments=dict[int, bytes])
    *others, done = answer.events(exchange(library), Flag())
    text = "".join(event.text for event in others if isinstance(event, TextDelta))
    assert isinstance(done, Done)
    assert (text, done.finish_reason, done.usage.completion_tokens) == ("abcdef"[:room], "length", room)
    assert bytes(done.token_ids).decode() == text


def test_an_answers_speed_is_that_of_its_tokens_not_of_their_groups() -> None:
    chunks = [(1.0 + count / 32, piece("a", count)) for count in range(1, 10)]
    library = Library([(1.0, READ), *chunks, (2.0, ENDED), (2.0, USAGE)])
    answer = Answer(begun=0.0, max_tokens=50, context_tokens=99, image_tokens=0, fragments=dict[int, bytes])
    *_, done = answer.events(exchange(library), Flag())
    assert isinstance(done, Done)
    assert done.timings.tokens_per_s == pytest.approx(32.0)
    assert done.timings.first_token_s == pytest.approx(1.0 + 1 / 32)
