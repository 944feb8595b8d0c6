"""Questions about where shapes are: in the picture, and seen from one another."""

from __future__ import annotations

import numpy as np

from assets.training.asking import (
    ANY,
    QA,
    SEEN,
    SIDE_MARGIN,
    SIDES,
    look,
    make_qa,
    named_pair,
    offset,
    pick_named,
)
from assets.training.scenes import Item, Scene
from assets.training.words import PLACES, cell, clear_of_borders, pick, place


def ask_relation(scene: Scene, rng: np.random.Generator) -> QA | None:
    """Is the red circle left of the blue square?"""
    pair = named_pair(scene, rng)
    if pair is None:
        return None
    (one, one_name), (two, two_name) = pair
    sides = [s for s in SIDES if abs(offset(one, two, s)) > SIDE_MARGIN]
    if not sides:
        return None
    side = pick(rng, sides)
    words = SIDES[side][0]
    template = f"Is the {one_name} {words} the {two_name} {SEEN}?"
    answer = "Yes." if offset(one, two, side) > 0 else "No."
    return make_qa(rng, "relation", template, answer, one)


def ask_relative_place(scene: Scene, rng: np.random.Generator) -> QA | None:
    """Where is the red circle, seen from the blue square?"""
    pair = named_pair(scene, rng)
    if pair is None:
        return None
    (one, one_name), (two, two_name) = pair
    side = max(SIDES, key=lambda s: offset(one, two, s))
    across = "above" if side in ("left", "right") else "left"
    near, far = abs(offset(one, two, across)), offset(one, two, side)
    if far < SIDE_MARGIN or far < 1.7 * near:
        return None
    template = (
        f"(Where is the {one_name} (relative|compared) to the {two_name}"
        f"|On which side of the {two_name} is the {one_name})?"
    )
    return make_qa(rng, "relative place", template, f"It is {SIDES[side][1]} the {look(two)}.", one)


def ask_extreme_place(scene: Scene, rng: np.random.Generator) -> QA | None:
    """Which shape is furthest to the left?"""
    if len(scene.items) < 2:
        return None
    side = pick(rng, list(SIDES))
    centre = Item("", "", 0.5, 0.5, 0.1)
    order = sorted(scene.items, key=lambda i: -offset(i, centre, side))
    if offset(order[0], order[1], side) < 0.08:
        return None
    words = {
        "left": f"(leftmost {ANY}|{ANY} furthest (left|to the left)|{ANY} on the far left)",
        "right": f"(rightmost {ANY}|{ANY} furthest (right|to the right)|{ANY} on the far right)",
        "above": f"(topmost {ANY}|highest {ANY}|{ANY} furthest up)",
        "below": f"(bottommost {ANY}|lowest {ANY}|{ANY} furthest down)",
    }[side]
    short = {
        "left": "(leftmost|furthest left|furthest to the left)",
        "right": "(rightmost|furthest right|furthest to the right)",
        "above": "(topmost|highest|furthest up)",
        "below": "(bottommost|lowest|furthest down)",
    }[side]
    template = f"((What|Which) is the {words}|Which {ANY} is (the|) {short}) {SEEN}?"
    return make_qa(rng, "outermost", template, f"The {look(order[0])}.", order[0])


def ask_beside(scene: Scene, rng: np.random.Generator) -> QA | None:
    """What is to the left of the blue square?"""
    chosen = pick_named(scene, rng)
    if chosen is None or len(scene.items) < 2:
        return None
    item, name = chosen
    side = pick(rng, list(SIDES))
    gaps = [(offset(o, item, side), o) for o in scene.items if o is not item]
    found = [o for gap, o in gaps if gap > SIDE_MARGIN]
    unsure = [o for gap, o in gaps if -0.04 < gap <= SIDE_MARGIN]
    if unsure or len(found) > 1 or (not found and rng.random() < 0.75):
        return None
    answer = f"The {look(found[0])}." if found else "Nothing."
    words = SIDES[side][0]
    template = f"(What is {words} the {name}|Which {ANY} is {words} the {name}) {SEEN}?"
    return make_qa(rng, "beside", template, answer, found[0] if found else None)


def ask_where(scene: Scene, rng: np.random.Generator) -> QA | None:
    """Where is the red circle?"""
    sure = [i for i in scene.items if clear_of_borders(i.x) and clear_of_borders(i.y)]
    chosen = pick_named(scene, rng, sure) if sure else None
    if chosen is None:
        return None
    item, name = chosen
    if len(scene.items) == 1 and rng.random() < 0.3:
        name = "(shape|object)"
    template = (
        f"(Where is the {name}|Where can I find the {name}|Where do you see the {name}"
        f"|In which part of the (picture|image) is the {name}) {SEEN}?"
    )
    return make_qa(rng, "where", template, f"It is {place(item.x, item.y)}.", item)


def ask_what_at(scene: Scene, rng: np.random.Generator) -> QA | None:
    """What is at the top left?"""
    if not all(clear_of_borders(v) for i in scene.items for v in (i.x, i.y)):
        return None
    empty = rng.random() < 0.12
    cells = {(cell(i.y), cell(i.x)) for i in scene.items}
    if empty:
        row, column = pick(rng, [(r, c) for r in range(3) for c in range(3) if (r, c) not in cells])
        found: list[Item] = []
    elif scene.items:
        anchor = pick(rng, scene.items)
        row, column = cell(anchor.y), cell(anchor.x)
        found = [i for i in scene.items if (cell(i.y), cell(i.x)) == (row, column)]
    else:
        return None
    if len(found) > 1:
        return None
    answer = f"The {look(found[0])}." if found else "Nothing."
    template = f"(What is|What do you see|Which {ANY} is) {PLACES[row][column]} {SEEN}?"
    return make_qa(rng, "what is at", template, answer, found[0] if found else None)
