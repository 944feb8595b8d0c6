"""Questions about how many there are, and whether there is one at all."""

from __future__ import annotations

import numpy as np

from assets.training.asking import QA, SEEN, absent_look, look, make_qa
from assets.training.scenes import COLOURS, SHAPES, Scene
from assets.training.words import article, pick, plural, vary


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
    return make_qa(rng, kind, template, _counted(number, noun), None)


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
    noun = pick(rng, used) if used and rng.random() < 0.75 else absent_look(scene, rng)
    return _ask_count(rng, "count by colour and shape", noun, used.count(noun))


def ask_exists(scene: Scene, rng: np.random.Generator) -> QA | None:
    """Is there a red circle?"""
    colours, shapes = {i.colour for i in scene.items}, {i.shape for i in scene.items}
    want = bool(scene.items) and rng.random() < 0.5
    form = rng.random()
    if form < 0.5:
        noun = look(pick(rng, scene.items)) if want else absent_look(scene, rng)
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
    return make_qa(rng, "existence", template, "Yes." if want else "No.", None)
