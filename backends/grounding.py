"""Boxes that a model names in its answer, `[[x0,y0,x1,y1]]`, as places on the picture. Pure.

Coordinates are three digits, 000 to 999, relative to the picture whatever its shape; several boxes of one
thing are separated by `;`. The words before the brackets say what is there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FULL = 1000
_NUMBER = r"\s*\d{3}\s*"
_BOX = rf"{_NUMBER}(?:,{_NUMBER}){{3}}"
_GROUP = re.compile(rf"\[\[({_BOX}(?:;{_BOX})*)\]\]")
# A phrase begins behind the last mark that ends one.
_ENDS = re.compile(r"[.!?;:,\n]")


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle as fractions of the picture's width and height, 0 to 1, from its upper left corner."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Grounded:
    """Something that an answer points at: its words, and its boxes. `start` and `end` are the brackets'."""

    phrase: str
    boxes: tuple[Box, ...]
    start: int
    end: int


def grounded(text: str) -> tuple[Grounded, ...]:
    """Everything that `text` points at, in its order. What isn't whole, or is no rectangle, is left out."""
    found = []
    behind = 0
    for group in _GROUP.finditer(text):
        boxes = tuple(box for one in group[1].split(";") if (box := _box(one)) is not None)
        phrase = _ENDS.split(text[behind : group.start()].rstrip())[-1].strip()
        behind = group.end()
        if boxes:
            found.append(Grounded(phrase, boxes, group.start(), group.end()))
    return tuple(found)


def _box(written: str) -> Box | None:
    left, top, right, bottom = (int(number) / _FULL for number in written.split(","))
    return Box(left, top, right, bottom) if left < right and top < bottom else None
