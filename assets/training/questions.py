"""Questions about a scene and their answers: one pure function per kind of question.

Each takes a scene and a random generator and gives a `QA`, or None when this scene does not allow
a question of that kind with one certain answer (two shapes almost equally big, for example).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from assets.training.scenes import COLOURS, SHAPES, Item, Scene
from assets.training.words import (
    PLACES,
    article,
    cell,
    clear_of_borders,
    listed,
    pick,
    place,
    plural,
    typed,
    vary,
)

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


def _ask(rng: np.random.Generator, kind: str, template: str, answer: str, item: Item | None) -> QA:
    return QA(kind, typed(rng, vary(rng, template)), answer, item)


def ask_colour(scene: Scene, rng: np.random.Generator) -> QA | None:
    """What colour is the circle?"""
    single = [i for i in scene.items if sum(o.shape == i.shape for o in scene.items) == 1]
    if not single:
        return None
    item = pick(rng, single)
    noun = "(shape|object|thing)" if len(scene.items) == 1 and rng.random() < 0.4 else item.shape
    template = (
        f"(What colour is the {noun}|What is the colour of the {noun}|Which colour is the {noun}"
        f"|What colour does the {noun} have|Tell me the colour of the {noun}) {SEEN}?"
    )
    return _ask(rng, "colour", template, f"It is {item.colour}.", item)


def ask_shape(scene: Scene, rng: np.random.Generator) -> QA | None:
    """What is the red shape?"""
    single = [i for i in scene.items if sum(o.colour == i.colour for o in scene.items) == 1]
    if not single:
        return None
    item = pick(rng, single)
    noun = f"{item.colour} {ANY}"
    if len(scene.items) == 1 and rng.random() < 0.4:
        noun = "(shape|object|thing)"
        template = f"(What shape is (it|this|the {noun})|What shape is there {SEEN})?"
    else:
        template = f"(What shape is the {noun}|What is the {noun}|Which shape is the {noun}) {SEEN}?"
    return _ask(rng, "shape", template, f"It is {article(item.shape)}.", item)


def _counted(number: int, noun: str) -> str:
    if number == 1:
        return f"There is 1 {noun}."
    head, _, last = noun.rpartition(" ")
    many = f"{head} {plural(last)}".strip()
    return f"There are {number or 'no'} {many}."


def _ask_count(rng: np.random.Generator, kind: str, noun: str, number: int) -> QA:
    head, _, last = noun.rpartition(" ")
    many = f"{head} {plural(last)}".strip()
    template = (
        f"(How many {many} are (there|in the picture|in the image|in this picture|in this image)"
        f"|How many {many} are there {SEEN}|How many {many} (do you see|can you see)"
        f"|Count the {many}|How many {many}|What is the number of {many} {SEEN})?"
    )
    return _ask(rng, kind, template, _counted(number, noun), None)


def ask_count_all(scene: Scene, rng: np.random.Generator) -> QA | None:
    """How many shapes are there?"""
    asked = _ask_count(rng, "count all", "shape", len(scene.items))
    swap = pick(rng, ("shape", "shape", "object", "thing"))
    return QA(asked.kind, asked.question.replace("shape", swap), asked.answer)


def ask_count_colour(scene: Scene, rng: np.random.Generator) -> QA | None:
    """How many red shapes are there?"""
    used = [i.colour for i in scene.items]
    colour = pick(rng, used) if used and rng.random() < 0.85 else pick(rng, COLOURS)
    asked = _ask_count(rng, "count by colour", f"{colour} shape", used.count(colour))
    swap = pick(rng, ("shape", "shape", "object", "thing", "one"))
    return QA(asked.kind, asked.question.replace("shape", swap), asked.answer)


def ask_count_shape(scene: Scene, rng: np.random.Generator) -> QA | None:
    """How many circles are there?"""
    used = [i.shape for i in scene.items]
    shape = pick(rng, used) if used and rng.random() < 0.85 else pick(rng, SHAPES)
    return _ask_count(rng, "count by shape", shape, used.count(shape))


def ask_count_both(scene: Scene, rng: np.random.Generator) -> QA | None:
    """How many red circles are there?"""
    used = [look(i) for i in scene.items]
    noun = pick(rng, used) if used and rng.random() < 0.75 else _absent_look(scene, rng)
    return _ask_count(rng, "count by colour and shape", noun, used.count(noun))


def _absent_look(scene: Scene, rng: np.random.Generator) -> str:
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


def ask_exists(scene: Scene, rng: np.random.Generator) -> QA | None:
    """Is there a red circle?"""
    colours, shapes = {i.colour for i in scene.items}, {i.shape for i in scene.items}
    want = bool(scene.items) and rng.random() < 0.5
    form = rng.random()
    if form < 0.5:
        noun = look(pick(rng, scene.items)) if want else _absent_look(scene, rng)
    elif form < 0.75:
        options = sorted(shapes) if want else [s for s in SHAPES if s not in shapes]
        # Every square is a rectangle, so "is there a rectangle" has no certain answer then.
        options = [s for s in options if not (s == "rectangle" and "square" in shapes)] or ["star"]
        noun = pick(rng, options)
        want = noun in shapes
    else:
        options = sorted(colours) if want else [c for c in COLOURS if c not in colours]
        noun = f"{pick(rng, options)} (shape|object|thing)"
    noun = vary(rng, noun)
    template = (
        f"(Is there {article(noun)}|Is {article(noun)} (present|there)"
        f"|Do you see {article(noun)}|Can you see {article(noun)}"
        f"|Does the (picture|image) (contain|have|show) {article(noun)}) {SEEN}?"
    )
    return _ask(rng, "existence", template, "Yes." if want else "No.", None)


def ask_extreme_size(scene: Scene, rng: np.random.Generator) -> QA | None:
    """Which shape is the biggest?"""
    if len(scene.items) < 2:
        return None
    big = rng.random() < 0.5
    order = sorted(scene.items, key=lambda i: i.radius, reverse=big)
    ratio = order[0].radius / order[1].radius
    if max(ratio, 1 / ratio) < BIGGER:
        return None
    word = "(biggest|largest)" if big else "smallest"
    template = (
        f"(What|Which {ANY}) is the {word} ({ANY}||) {SEEN}?"
        if rng.random() < 0.7
        else f"(What is the {word} {ANY}|Name the {word} {ANY}) {SEEN}?"
    )
    return _ask(rng, "size", template, f"The {look(order[0])}.", order[0])


def ask_bigger(scene: Scene, rng: np.random.Generator) -> QA | None:
    """Is the red circle bigger than the blue square?"""
    pair = _named_pair(scene, rng)
    if pair is None:
        return None
    (one, one_name), (two, two_name) = pair
    ratio = one.radius / two.radius
    if max(ratio, 1 / ratio) < CLEARLY_BIGGER:
        return None
    bigger = rng.random() < 0.5
    word = "(bigger|larger)" if bigger else "smaller"
    answer = "Yes." if (ratio > 1) == bigger else "No."
    return _ask(rng, "size comparison", f"Is the {one_name} {word} than the {two_name}?", answer, one)


def _named_pair(scene: Scene, rng: np.random.Generator) -> tuple[tuple[Item, str], tuple[Item, str]] | None:
    one = pick_named(scene, rng)
    if one is None:
        return None
    rest = [i for i in scene.items if i is not one[0]]
    two = pick_named(scene, rng, rest) if rest else None
    return None if two is None else (one, two)


def offset(one: Item, two: Item, side: str) -> float:
    """How far `one` lies on that side of `two`; negative on the other side."""
    if side in ("left", "right"):
        return (two.x - one.x) * (1 if side == "left" else -1)
    return (two.y - one.y) * (1 if side == "above" else -1)


def ask_relation(scene: Scene, rng: np.random.Generator) -> QA | None:
    """Is the red circle left of the blue square?"""
    pair = _named_pair(scene, rng)
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
    return _ask(rng, "relation", template, answer, one)


def ask_relative_place(scene: Scene, rng: np.random.Generator) -> QA | None:
    """Where is the red circle, seen from the blue square?"""
    pair = _named_pair(scene, rng)
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
    return _ask(rng, "relative place", template, f"It is {SIDES[side][1]} the {look(two)}.", one)


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
    return _ask(rng, "outermost", template, f"The {look(order[0])}.", order[0])


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
    return _ask(rng, "beside", template, answer, found[0] if found else None)


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
    return _ask(rng, "where", template, f"It is {place(item.x, item.y)}.", item)


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
    return _ask(rng, "what is at", template, answer, found[0] if found else None)


def ask_background(scene: Scene, rng: np.random.Generator) -> QA | None:
    """What colour is the background?"""
    if scene.background is None:
        return None
    template = (
        "(What colour is the background|What is the background colour"
        f"|What is the colour of the background|Which colour does the background have) {SEEN}?"
    )
    return _ask(rng, "background", template, f"The background is {scene.background}.", None)


def ask_colours(scene: Scene, rng: np.random.Generator) -> QA | None:
    """What colours do the shapes have?"""
    if not scene.items:
        return None
    order = sorted(scene.items, key=lambda i: i.x)
    colours = list(dict.fromkeys(i.colour for i in order))
    template = (
        "(What|Which) colours (do the (shapes|objects) have|are the (shapes|objects)"
        f"|are the (shapes|objects)) {SEEN}?"
    )
    return _ask(rng, "colours", template, f"I see {listed(colours)}.", None)


def description(scene: Scene) -> str:
    """The canonical description: from left to right, each shape with its place."""
    if not scene.items:
        return "I see no shapes."
    order = sorted(scene.items, key=lambda i: i.x)
    return f"I see {listed([f'{article(look(i))} {place(i.x, i.y)}' for i in order])}."


def ask_description(scene: Scene, rng: np.random.Generator) -> QA | None:
    """Describe the picture."""
    template = (
        "(Describe (the|this) (picture|image)(.|)|What (is|do you see|can you see) in (the|this)"
        " (picture|image)?|What do you see?|What is (this|shown here|in it)?|What does the (picture"
        "|image) show?|Tell me what you see.|Please describe (it|the picture|this image)."
        "|What shapes (do you see|are there|are in the (picture|image))?|What is there?|Describe.)"
    )
    return _ask(rng, "description", template, description(scene), None)


def ask_missing(scene: Scene, rng: np.random.Generator) -> QA | None:
    """A question about a shape that is not there gets told so."""
    shapes, colours = {i.shape for i in scene.items}, {i.colour for i in scene.items}
    form = rng.random()
    if form < 0.35:
        absent = [s for s in SHAPES if s not in shapes]
        noun = pick(rng, absent)
        if noun == "rectangle" and "square" in shapes:
            return None
        template = f"(What colour is the {noun}|What is the colour of the {noun}) {SEEN}?"
    elif form < 0.55:
        noun = f"{pick(rng, [c for c in COLOURS if c not in colours])} shape"
        template = f"What (shape|) is the {noun} {SEEN}?"
    else:
        noun = _absent_look(scene, rng)
        template = f"(Where is the {noun}|In which part of the (picture|image) is the {noun}) {SEEN}?"
    return _ask(rng, "missing", template, f"I see no {noun}.", None)


MAKERS: dict[str, Maker] = {
    "colour": ask_colour,
    "shape": ask_shape,
    "count all": ask_count_all,
    "count by colour": ask_count_colour,
    "count by shape": ask_count_shape,
    "count by colour and shape": ask_count_both,
    "existence": ask_exists,
    "size": ask_extreme_size,
    "size comparison": ask_bigger,
    "relation": ask_relation,
    "relative place": ask_relative_place,
    "outermost": ask_extreme_place,
    "beside": ask_beside,
    "where": ask_where,
    "what is at": ask_what_at,
    "background": ask_background,
    "colours": ask_colours,
    "description": ask_description,
    "missing": ask_missing,
}


def follow_up(before: QA, rng: np.random.Generator) -> QA | None:
    """A question with "it", about the shape of the answer before."""
    item = before.subject
    if item is None or before.answer in ("Yes.", "No."):
        return None
    options = ["(What colour is it|Which colour does it have)?", "(What shape is it|What is it)?"]
    answers = [f"It is {item.colour}.", f"It is {article(item.shape)}."]
    if clear_of_borders(item.x) and clear_of_borders(item.y):
        options.append("(And where is it|Where is it)?")
        answers.append(f"It is {place(item.x, item.y)}.")
    chosen = int(rng.integers(len(options)))
    return _ask(rng, "follow-up", options[chosen], answers[chosen], item)
