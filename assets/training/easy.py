"""easy-VQA's pictures and questions (the `easy-vqa` package), as scenes where that is possible.

Only the train split is ever used for training. A picture shows one circle, rectangle or triangle;
its place is measured from the pixels and its name and colour are taken from the split's answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import easy_vqa
import numpy as np
from PIL import Image

from assets.training.scenes import COLOURS, SHAPES, Item, Pixels, Scene

Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class EasyPicture:
    """One picture with every question asked about it: (question, one-word answer)."""

    pixels: Pixels
    questions: tuple[tuple[str, str], ...]


@cache
def pictures(split: Split, *, original: bool = False) -> tuple[EasyPicture, ...]:
    """All pictures of a split, enlarged to 128 x 128 as the processor does unless `original`."""
    if split == "train":
        paths, (texts, answers, ids) = (
            easy_vqa.get_train_image_paths(),
            easy_vqa.get_train_questions(),
        )
    else:
        paths, (texts, answers, ids) = (
            easy_vqa.get_test_image_paths(),
            easy_vqa.get_test_questions(),
        )
    asked: dict[int, list[tuple[str, str]]] = {}
    for text, answer, picture in zip(texts, answers, ids, strict=True):
        asked.setdefault(picture, []).append((text, answer))
    out = []
    for picture, questions in sorted(asked.items()):
        with Image.open(paths[picture]) as image:
            shown = image.convert("RGB")
        if not original:
            shown = shown.resize((128, 128), Image.Resampling.BICUBIC)
        out.append(EasyPicture(np.asarray(shown), tuple(questions)))
    return tuple(out)


def as_scene(picture: EasyPicture) -> Scene:
    """The truth about a training picture; an empty name where its questions do not tell."""
    difference = np.abs(picture.pixels.astype(np.int16) - picture.pixels[0, 0]).sum(-1) > 60
    rows, columns = np.nonzero(difference)
    if len(rows) == 0:
        return Scene((), None)
    answers = {answer for _, answer in picture.questions}
    for question, answer in picture.questions:
        words = question.replace("?", "").split()
        if answer == ("no" if {"not", "no"} & set(words) else "yes"):
            answers |= set(words)
    item = Item(
        shape=next((name for name in SHAPES if name in answers), ""),
        colour=next((name for name in COLOURS if name in answers), ""),
        x=float(columns.min() + columns.max() + 1) / 256,
        y=float(rows.min() + rows.max() + 1) / 256,
        radius=float(np.sqrt(len(rows) / np.pi)) / 128,
    )
    return Scene((item,), None)


def spoken(answer: str) -> str:
    """easy-VQA's one-word answer as this model says it."""
    if answer in ("yes", "no"):
        return f"{answer.capitalize()}."
    return f"It is a {answer}." if answer in SHAPES else f"It is {answer}."
