"""What every question is built from: a QA, references that fit one shape only, and sides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from assets.training.scenes import COLOURS, SHAPES, Item, Scene
from assets.training.words import pick, typed, vary

SEEN = "(in the (picture|image)|in this (picture|image)||||)"
ANY = "(shape|object|thing|one)"
SIDE_MARGIN = 0.12
BIGGER = 1.35
CLEARLY_BIGGER = 1.5
SIDES = {
    "left": ("(left of|to the left of|on the left of)", "to the left of"),
    "right": ("(right of|to the right of|on the right of)", "to the right of"),
    "above": ("(above|over)", "above"),
    "below": ("(below|under|beneath)", "below"),
}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}


@dataclass(frozen=True, slots=True)
class QA:
    """A question as a person might type it and the one right answer.

    `subject` is the shape that the answer is about, where it is about one.
    """

    kind: str
    question: str
    answer: str
    subject: Item | None = None


Maker = Callable[[Scene, np.random.Generator], QA | None]


def look(item: Item) -> str:
    """How a shape is called, as in "red circle"."""
    return f"{item.colour} {item.shape}"


def names(item: Item, scene: Scene) -> list[str]:
    """The ways to refer to a shape that fit no other shape of the scene."""
    found = []
    if sum(look(other) == look(item) for other in scene.items) == 1:
        found += [look(item)] * 3
    if sum(other.shape == item.shape for other in scene.items) == 1:
        found.append(item.shape)
    if sum(other.colour == item.colour for other in scene.items) == 1:
        found += [f"{item.colour} shape", f"{item.colour} one"]
    return found


def pick_named(
    scene: Scene, rng: np.random.Generator, among: Sequence[Item] | None = None
) -> tuple[Item, str] | None:
    """A shape that can be referred to, with a reference to it."""
    options = [(i, found) for i in (among or scene.items) if (found := names(i, scene))]
    if not options:
        return None
    item, found = pick(rng, options)
    return item, pick(rng, found)


def make_qa(rng: np.random.Generator, kind: str, template: str, answer: str, item: Item | None) -> QA:
    return QA(kind, typed(rng, vary(rng, template)), answer, item)


def named_pair(scene: Scene, rng: np.random.Generator) -> tuple[tuple[Item, str], tuple[Item, str]] | None:
    one = pick_named(scene, rng)
    if one is None:
        return None
    rest = [i for i in scene.items if i is not one[0]]
    two = pick_named(scene, rng, rest) if rest else None
    return None if two is None else (one, two)


def absent_look(scene: Scene, rng: np.random.Generator) -> str:
    """A look that no shape has, mostly mixed from looks that are there."""
    colours = [i.colour for i in scene.items] or list(COLOURS)
    shapes = [i.shape for i in scene.items] or list(SHAPES)
    used = {look(i) for i in scene.items}
    for _ in range(20):
        colour = pick(rng, colours) if rng.random() < 0.7 else pick(rng, COLOURS)
        shape = pick(rng, shapes) if rng.random() < 0.7 else pick(rng, SHAPES)
        if f"{colour} {shape}" not in used:
            return f"{colour} {shape}"
    return next(f"{c} {s}" for c in COLOURS for s in SHAPES if f"{c} {s}" not in used)


def offset(one: Item, two: Item, side: str) -> float:
    """How far `one` lies on that side of `two`; negative on the other side."""
    if side in ("left", "right"):
        return (two.x - one.x) * (1 if side == "left" else -1)
    return (two.y - one.y) * (1 if side == "above" else -1)
