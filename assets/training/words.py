"""Small pieces of English: articles, plurals, places, and ways to vary how a person types."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

PLACES = (
    ("at the top left", "at the top", "at the top right"),
    ("on the left", "in the middle", "on the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)
_CHOICE = re.compile(r"\(([^()]*)\)")


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def vary(rng: np.random.Generator, template: str) -> str:
    """Choose among "(a|b|c)" groups, innermost first; "(a|)" may leave the words out."""
    while match := _CHOICE.search(template):
        chosen = pick(rng, match.group(1).split("|"))
        template = template[: match.start()] + chosen + template[match.end() :]
    return re.sub(r"\s+", " ", template).strip().replace(" ?", "?")


def typed(rng: np.random.Generator, question: str) -> str:
    """The question as people really type it: lower case, no question mark, other spelling."""
    if rng.random() < 0.5:
        question = question.replace("colour", "color")
    if rng.random() < 0.25:
        question = question.replace("gray", "grey")
    if rng.random() < 0.25:
        question = question.lower()
    if rng.random() < 0.12:
        question = question.rstrip("?.!")
    return question


def plural(noun: str) -> str:
    """Circles, crosses."""
    return noun + ("es" if noun.endswith(("s", "x")) else "s")


def article(noun: str) -> str:
    """The noun with "a" or "an"."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def listed(parts: Sequence[str]) -> str:
    """Joined in English: "a", "a and b", "a, b and c"."""
    if len(parts) < 2:
        return "".join(parts)
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def cell(value: float) -> int:
    """Which third of the picture a coordinate lies in: 0, 1 or 2."""
    return min(2, int(value * 3))


def place(x: float, y: float) -> str:
    """Where a point lies, in words."""
    return PLACES[cell(y)][cell(x)]


def clear_of_borders(value: float, margin: float = 0.045) -> bool:
    """Whether a coordinate is far enough from the borders between thirds to be beyond doubt."""
    return min(abs(value - 1 / 3), abs(value - 2 / 3)) > margin
