"""Pack many conversations about one picture into one row, without letting them see each other.

A row is a shared prefix (system prompt, picture) followed by groups. Every group, a conversation
of one to three turns, sees the prefix and itself, and its positions go on from the prefix as if it
were alone, so the cost of the picture is shared by about ten questions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from assets.training import easy
from assets.training.asking import QA
from assets.training.questions import MAKERS, follow_up
from assets.training.scenes import Pixels, Scene, random_scene
from assets.training.smalltalk import SYSTEM_PROMPTS, off_topic, without_picture
from assets.training.tokens import END_ID, IMAGE_ID, PAD_ID, START_ID
from assets.training.truth import PATCHES
from assets.training.vision_stage import Pictures, bundle, paint
from assets.training.words import pick

ROW_TOKENS = 320
PREFIX = 0
PADDING = -1
# How often a kind is asked when nothing is known about how well it goes.
BASE_WEIGHTS = {
    "size": 4.0,
    "size comparison": 4.5,
    "relation": 2.5,
    "relative place": 2.0,
    "outermost": 2.0,
    "beside": 4.0,
    "where": 1.5,
    "what is at": 4.0,
    "count by colour and shape": 2.0,
    "count by colour": 1.3,
    "count by shape": 1.5,
    "description": 2.5,
    "background": 0.6,
    "missing": 0.7,
    "colours": 1.5,
}


@dataclass(frozen=True, slots=True)
class Mix:
    """What rows are made of.

    `weights` are per kind; `most` is the largest number of shapes; the rest are shares: of rows
    about easy-VQA, without a picture and with two, of small talk among the questions, and of
    scenes with many shapes alike.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: dict(BASE_WEIGHTS))
    most: int = 6
    easy: float = 0.08
    text_only: float = 0.07
    two_pictures: float = 0.03
    off_topic: float = 0.06
    crowds: float = 0.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows ready for the model; `sources`, `targets` and `asked` run over answer tokens.

    `sources` index the flattened (rows x tokens) grid; `asked` numbers the question that a token
    belongs to, whose kind is `kinds[asked]`. `slots` are the flattened places of image tokens.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor
    slots: Tensor
    sources: Tensor
    targets: Tensor
    asked: Tensor
    kinds: tuple[str, ...]
    pictures: Pictures | None


class Row:
    """One row under construction."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.ids: list[int] = []
        self.segments: list[int] = []
        self.positions: list[int] = []
        self.answers: list[tuple[int, int, int]] = []
        self.kinds: list[str] = []
        self.group = PREFIX

    def encode(self, text: str) -> list[int]:
        """Token numbers of plain text."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def start_group(self) -> None:
        """Begin a conversation that sees only the prefix and itself."""
        self.group += 1

    def _add(self, ids: list[int]) -> None:
        if self.segments and self.segments[-1] == self.group:
            position = self.positions[-1] + 1
        else:
            position = self.segments.count(PREFIX)
        self.ids += ids
        self.segments += [self.group] * len(ids)
        self.positions += range(position, position + len(ids))

    def _first_of_conversation(self) -> bool:
        return not self.segments or (self.segments[-1] != self.group and PREFIX not in self.segments)

    def open_turn(self, role: str) -> None:
        """The header of a message, after a line break unless it opens the conversation."""
        first = self._first_of_conversation()
        self._add([*([] if first else self.encode("\n")), START_ID, *self.encode(f"{role}\n")])

    def add_image(self) -> None:
        """The picture's slots."""
        self._add([IMAGE_ID] * PATCHES + self.encode("\n"))

    def add_text(self, text: str) -> None:
        """The text of a message and the end of its turn."""
        self._add([*self.encode(text), END_ID])

    def answer(self, asked: QA) -> None:
        """The assistant's turn; its tokens and the end of turn are what is learned."""
        self.open_turn("assistant")
        ids = [*self.encode(asked.answer), END_ID]
        start = len(self.ids)
        self.answers += [(start - 1 + i, token, len(self.kinds)) for i, token in enumerate(ids)]
        self.kinds.append(asked.kind)
        self._add(ids)

    def mark(self) -> tuple[int, int, int, int]:
        """A point to go back to when a group turns out too long."""
        return len(self.ids), len(self.answers), len(self.kinds), self.group

    def back_to(self, mark: tuple[int, int, int, int]) -> None:
        """Drop everything since the mark."""
        tokens, answers, kinds, self.group = mark
        del self.ids[tokens:], self.segments[tokens:], self.positions[tokens:]
        del self.answers[answers:], self.kinds[kinds:]


def ask(scene: Scene, rng: np.random.Generator, mix: Mix) -> QA:
    """A question that this scene allows, its kind drawn by weight."""
    if rng.random() < mix.off_topic:
        return off_topic(rng, with_picture=True)
    kinds = list(MAKERS)
    weights = np.asarray([mix.weights.get(kind, 1.0) for kind in kinds])
    for kind in rng.choice(kinds, size=8, p=weights / weights.sum()):
        if asked := MAKERS[str(kind)](scene, rng):
            return asked
    asked = MAKERS["count all"](scene, rng)
    assert asked is not None
    return asked


def ask_easy(picture: easy.EasyPicture, rng: np.random.Generator) -> QA:
    """One of easy-VQA's own questions, with its answer as this model says it."""
    question, answer = pick(rng, picture.questions)
    kind = "easy " + ("yes/no" if answer in ("yes", "no") else "name")
    return QA(kind, question, easy.spoken(answer))


def picture_row(
    tokenizer: Tokenizer, rng: np.random.Generator, mix: Mix
) -> tuple[Row, list[Scene], list[Pixels | None]]:
    """A row about one picture (rarely two in turn), with the scenes behind it."""
    row = Row(tokenizer)
    scenes: list[Scene] = []
    pixels: list[Pixels | None] = []
    kind = rng.random()
    if kind < 0.15:
        row.open_turn("system")
        row.add_text(pick(rng, SYSTEM_PROMPTS))
    elif kind < 0.2:
        chat = off_topic(rng, with_picture=False)
        row.open_turn("user")
        row.add_text(chat.question)
        row.answer(chat)
    elif kind < 0.2 + mix.two_pictures:
        scenes.append(random_scene(rng, int(rng.integers(1, 4))))
        pixels.append(None)
        before = ask(scenes[0], rng, mix)
        row.open_turn("user")
        row.add_image()
        row.add_text(before.question)
        row.answer(before)
    own = None
    if rng.random() < mix.easy:
        own = pick(rng, easy.pictures("train"))
        scenes.append(easy.as_scene(own))
        pixels.append(own.pixels)
    else:
        scenes.append(_scene(rng, mix.most, mix.crowds))
        pixels.append(None)
    row.open_turn("user")
    row.add_image()
    _fill(row, scenes[-1], own, rng, mix)
    return row, scenes, pixels


def _scene(rng: np.random.Generator, most: int, crowds: float = 0.0) -> Scene:
    """Few shapes more often than many, repeats of looks in some scenes far more than in others."""
    if rng.random() < 0.015:
        return random_scene(rng, 0)
    shares = np.asarray([0.12, 0.24, 0.24, 0.17, 0.13, 0.10])[:most]
    count = 1 + int(rng.choice(len(shares), p=shares / shares.sum()))
    if rng.random() < crowds:
        return random_scene(rng, max(count, int(rng.integers(2, 6))), repeat=0.85, alike=0.9)
    return random_scene(rng, count, repeat=pick(rng, (0.15, 0.3, 0.75)))


def _fill(row: Row, scene: Scene, own: easy.EasyPicture | None, rng: np.random.Generator, mix: Mix) -> None:
    described = False
    while True:
        mark = row.mark()
        row.start_group()
        complete = all(i.shape and i.colour for i in scene.items)
        easy_question = own is not None and (not complete or rng.random() < 0.8)
        asked = ask_easy(own, rng) if own and easy_question else ask(scene, rng, mix)
        if asked.kind == "description" and described:
            continue
        row.add_text(asked.question)
        row.answer(asked)
        while rng.random() < 0.15 and not easy_question:
            asked = (follow_up(asked, rng) if rng.random() < 0.6 else None) or ask(scene, rng, mix)
            row.open_turn("user")
            row.add_text(asked.question)
            row.answer(asked)
        if len(row.ids) > ROW_TOKENS:
            row.back_to(mark)
            return
        described = described or asked.kind == "description"


def text_row(tokenizer: Tokenizer, rng: np.random.Generator, mix: Mix) -> Row:
    """A row of chats without a picture."""
    row = Row(tokenizer)
    if rng.random() < 0.2:
        row.open_turn("system")
        row.add_text(pick(rng, SYSTEM_PROMPTS))
    while True:
        mark = row.mark()
        row.start_group()
        for turn in range(3):
            if turn and rng.random() < 0.8:
                break
            if rng.random() < 0.3:
                asked = without_picture(ask(_scene(rng, 4), rng, Mix(mix.weights, off_topic=0)))
            else:
                asked = off_topic(rng, with_picture=False)
            row.open_turn("user")
            row.add_text(asked.question)
            row.answer(asked)
        if len(row.ids) > ROW_TOKENS:
            row.back_to(mark)
            return row


def make_batch(tokenizer: Tokenizer, rng: np.random.Generator, rows: int, mix: Mix) -> Batch:
    """A batch of rows with their pictures drawn."""
    made: list[Row] = []
    scenes: list[Scene] = []
    pixels: list[Pixels] = []
    for _ in range(rows):
        if rng.random() < mix.text_only:
            made.append(text_row(tokenizer, rng, mix))
            continue
        row, its_scenes, its_pixels = picture_row(tokenizer, rng, mix)
        made.append(row)
        scenes += its_scenes
        pixels += [paint(s, rng) if p is None else p for s, p in zip(its_scenes, its_pixels, strict=True)]
    return collate(made, bundle(pixels, scenes) if scenes else None)


def collate(rows: list[Row], pictures: Pictures | None) -> Batch:
    """Pad rows to one length and turn them into tensors."""
    shape = (len(rows), ROW_TOKENS)
    ids = np.full(shape, PAD_ID, np.int64)
    positions = np.zeros(shape, np.int64)
    segments = np.full(shape, PADDING, np.int64)
    answers: list[tuple[int, int, int]] = []
    kinds: list[str] = []
    for number, row in enumerate(rows):
        length = len(row.ids)
        ids[number, :length] = row.ids
        positions[number, :length] = row.positions
        segments[number, :length] = row.segments
        answers += [(number * ROW_TOKENS + at, token, asked + len(kinds)) for at, token, asked in row.answers]
        kinds += row.kinds
    table = torch.tensor(answers, dtype=torch.int64)
    grid = torch.from_numpy(ids)
    return Batch(
        ids=grid,
        positions=torch.from_numpy(positions),
        mask=attention_mask(torch.from_numpy(segments)),
        slots=(grid.flatten() == IMAGE_ID).nonzero().squeeze(-1),
        sources=table[:, 0],
        targets=table[:, 1],
        asked=table[:, 2],
        kinds=tuple(kinds),
        pictures=pictures,
    )


def attention_mask(segments: Tensor) -> Tensor:
    """Additive mask (rows, T, T): earlier tokens of the same group or of the prefix."""
    length = segments.shape[1]
    same = segments[:, :, None] == segments[:, None, :]
    shared = (segments[:, None, :] == PREFIX) & (segments[:, :, None] != PADDING)
    earlier = torch.ones(length, length, dtype=torch.bool).tril()
    return torch.where((same | shared) & earlier, 0.0, -30000.0).bfloat16()
