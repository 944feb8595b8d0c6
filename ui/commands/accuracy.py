"""How many answers of a `batch` were right, where its questions say what is."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Asked(Protocol):
    """A question of the file. `answers` are the right ones, none where the file does not say."""

    @property
    def id(self) -> str | int:
        """What its answers are found by."""

    @property
    def answers(self) -> tuple[str, ...]:
        """Any of these is right."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """`right` of the `judged` questions: those that say what is right and that have an answer."""

    right: int
    judged: int

    @property
    def share(self) -> float:
        """0..1."""
        return self.right / max(1, self.judged)


def accuracy(questions: Iterable[Asked], out: Path) -> Accuracy | None:
    """Judge all answers of `out`, also those of earlier runs; None where no question says what is right.

    Of several answers to one question the last counts, of several questions with the same id each.
    """
    told = [question for question in questions if question.answers]
    if not told:
        return None
    given: dict[str | int, str] = {}
    with out.open(encoding="utf-8") as lines:
        for line in lines:
            answer = json.loads(line)
            given[answer["question_id"]] = str(answer.get("text", ""))
    judged = [question for question in told if question.id in given]
    right = sum(is_right(given[question.id], question.answers) for question in judged)
    return Accuracy(right, len(judged))


def is_right(answer: str, expected: Iterable[str]) -> bool:
    """Whether `answer` is one of those expected, whatever its case, spaces and closing dot."""
    return _plain(answer) in {_plain(one) for one in expected}


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".!")
