"""Reads where a model says that things are in a picture: CogVLM's boxes, `a cat[[102,340,415,877]]`.

Four numbers of three digits each are the left, top, right and bottom edge in thousandths of the picture's
width and height; several boxes of one thing stand in the same brackets, separated by `;`
(https://github.com/THUDM/CogVLM, README, "Grounding"). Whatever is not written just so stays text: lists of
numbers in an answer about code have spaces, or other digits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_BOX = r"[0-9]{3},[0-9]{3},[0-9]{3},[0-9]{3}"
_MARK = re.compile(rf"(?<!\[)\[\[({_BOX}(?:;{_BOX})*)\]\](?!\])")
# What ends the phrase before: a sign of an inner sentence counts only where it can't be part of a number.
_ENDS = re.compile(r"[.!?;:,](?=\s|$)|[。！？；：，、\n\r]")
_LINK_WORD = re.compile(r"^(?:(?:and|or)\s+|[和与及])", re.IGNORECASE)
# Signs of Markdown, brackets and dashes around a phrase; and what may stand between it and its box.
_AROUND = " \t\n\r*_#>`~|()（）[]\"'“”-–—"
_BETWEEN = _AROUND + ".!?;:,。！？；：，、"
_LONGEST_LABEL = 60


@dataclass(frozen=True, slots=True)
class Box:
    """A place in a picture: its edges as fractions of width and height; `label`, if any, is what is there."""

    label: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A pair of brackets in an answer, [start, end) of its characters, and the boxes in it."""

    start: int
    end: int
    boxes: tuple[Box, ...]


def find(answer: str) -> tuple[Mark, ...]:
    """Return the boxes that `answer` names, in its order; brackets with a box that can't be are left out.

    >>> [box.label for mark in find("A cat[[100,200,300,400]] sleeps.") for box in mark.boxes]
    ['A cat']
    """
    marks: list[Mark] = []
    before = 0
    for found in _MARK.finditer(answer):
        label = _phrase(answer[before : found.start()])
        boxes = [_box(label, written) for written in found[1].split(";")]
        real = tuple(box for box in boxes if box is not None)
        if len(real) == len(boxes):
            marks.append(Mark(found.start(), found.end(), real))
        before = found.end()
    return tuple(marks)


def _box(label: str, written: str) -> Box | None:
    left, top, right, bottom = (int(number) / 1000 for number in written.split(","))
    return Box(label, left, top, right, bottom) if left < right and top < bottom else None


def _phrase(text: str) -> str:
    """The words that end `text`, without the sentences before them and without marks of Markdown."""
    text = text.rstrip(_BETWEEN)
    ends = [end.end() for end in _ENDS.finditer(text)]
    phrase = text[ends[-1] if ends else 0 :].strip(_AROUND)
    phrase = " ".join(_LINK_WORD.sub("", phrase, count=1).split())
    if len(phrase) <= _LONGEST_LABEL:
        return phrase
    _, _, last = phrase[-_LONGEST_LABEL:].partition(" ")
    return f"… {last or phrase[-_LONGEST_LABEL:]}"
