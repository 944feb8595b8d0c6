"""Questions about a scene and their answers: one pure function per kind of question.

Each takes a scene and a random generator and gives a `QA`, or None when this scene does not allow
a question of that kind with one certain answer (two shapes almost equally big, for example).
"""

from __future__ import annotations

import numpy as np

from assets.training.asking import (
    ANY,
    BIGGER,
    CLEARLY_BIGGER,
    QA,
    SEEN,
    Maker,
    absent_look,
    look,
    make_qa,
    named_pair,
)
from assets.training.counting import (
    ask_count_all,
    ask_count_both,
    ask_count_colour,
    ask_count_shape,
    ask_exists,
)
from assets.training.places import (
    ask_beside,
    ask_extreme_place,
    ask_relation,
    ask_relative_place,
    ask_what_at,
    ask_where,
)
from assets.training.scenes import COLOURS, SHAPES, Scene
from assets.training.words import article, clear_of_borders, listed, pick, place


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
    return make_qa(rng, "colour", template, f"It is {item.colour}.", item)


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
    return make_qa(rng, "shape", template, f"It is {article(item.shape)}.", item)


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
    return make_qa(rng, "size", template, f"The {look(order[0])}.", order[0])


def ask_bigger(scene: Scene, rng: np.random.Generator) -> QA | None:
    """Is the red circle bigger than the blue square?"""
    pair = named_pair(scene, rng)
    if pair is None:
        return None
    (one, one_name), (two, two_name) = pair
    ratio = one.radius / two.radius
    if max(ratio, 1 / ratio) < CLEARLY_BIGGER:
        return None
    bigger = rng.random() < 0.5
    word = "(bigger|larger)" if bigger else "smaller"
    answer = "Yes." if (ratio > 1) == bigger else "No."
    return make_qa(rng, "size comparison", f"Is the {one_name} {word} than the {two_name}?", answer, one)


def ask_background(scene: Scene, rng: np.random.Generator) -> QA | None:
    """What colour is the background?"""
    if scene.background is None:
        return None
    template = (
        "(What colour is the background|What is the background colour"
        f"|What is the colour of the background|Which colour does the background have) {SEEN}?"
    )
    return make_qa(rng, "background", template, f"The background is {scene.background}.", None)


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
    return make_qa(rng, "colours", template, f"I see {listed(colours)}.", None)


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
    return make_qa(rng, "description", template, description(scene), None)


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
        noun = absent_look(scene, rng)
        template = f"(Where is the {noun}|In which part of the (picture|image) is the {noun}) {SEEN}?"
    return make_qa(rng, "missing", template, f"I see no {noun}.", None)


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
    return make_qa(rng, "follow-up", options[chosen], answers[chosen], item)
