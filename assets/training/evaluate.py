"""Measure a model folder through transformers: held-out drawings, easy-VQA's test split, chat.

Held-out drawings use another seed, backdrops that training never shows, canvases of 96 to 320
pixels and sizes beyond the training range. Everything is greedy decoding.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from assets.training import easy
from assets.training.asking import look
from assets.training.questions import MAKERS, ask_description
from assets.training.scenes import HELD_OUT_STYLE, Item, Pixels, Scene, draw, random_scene
from assets.training.smalltalk import (
    ABILITIES,
    APOLOGY,
    FAREWELL,
    GREETING,
    IDENTITY,
    LIMITS,
    MACHINE,
    MODEST_THANKS,
    NO_KNOWLEDGE,
    NO_PICTURE,
    NO_READING,
    NO_THINGS,
    ORIGIN,
    WELCOME,
    WELL,
)
from assets.training.words import PLACES, place, plural

HELD_OUT_SEED = 20_261_121
MARGIN = 0.045
_WORDS = "|".join(sorted((name for row in PLACES for name in row), key=len, reverse=True))
_OBJECT = re.compile(rf"an? (\w+) (\w+) ({_WORDS})")


@dataclass(frozen=True, slots=True)
class Case:
    """One question with everything needed to judge its answer."""

    group: str
    question: str
    expected: tuple[str, ...]
    pixels: Pixels | None
    scene: Scene | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """Right answers of a group."""

    group: str
    right: int
    total: int

    @property
    def share(self) -> float:
        """0..1."""
        return self.right / max(self.total, 1)


class Answerer:
    """A model folder, answering many questions at once."""

    def __init__(self, folder: Path, batch: int = 64) -> None:
        self.batch = batch
        self.processor: Any = AutoProcessor.from_pretrained(folder)
        self.processor.tokenizer.padding_side = "left"
        self.model: Any = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()

    def __call__(self, cases: Sequence[Case]) -> list[str]:
        """The answers, in the order of the cases."""
        order = sorted(range(len(cases)), key=lambda i: cases[i].pixels is None)
        answers = [""] * len(cases)
        start = 0
        while start < len(order):
            seen = cases[order[start]].pixels is not None
            chunk = [i for i in order[start : start + self.batch] if (cases[i].pixels is not None) == seen]
            for i, answer in zip(chunk, self._answer([cases[i] for i in chunk]), strict=True):
                answers[i] = answer
            start += len(chunk)
        return answers

    @torch.inference_mode()
    def _answer(self, cases: Sequence[Case]) -> list[str]:
        texts = []
        for case in cases:
            content: list[dict[str, str]] = [{"type": "text", "text": case.question}]
            if case.pixels is not None:
                content.insert(0, {"type": "image"})
            texts.append(
                self.processor.apply_chat_template(
                    [{"role": "user", "content": content}],
                    add_generation_prompt=True,
                    tokenize=False,
                )
            )
        images = [Image.fromarray(c.pixels) for c in cases if c.pixels is not None]
        inputs = self.processor(text=texts, images=images or None, padding=True, return_tensors="pt")
        out = self.model.generate(**inputs, max_new_tokens=110, do_sample=False)
        new = out[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in self.processor.batch_decode(new, skip_special_tokens=True)]


def judge(case: Case, answer: str) -> bool:
    """Exact match; a description is right when its shapes and places are, in any order."""
    if case.group.startswith("description") and case.scene is not None:
        return described_right(case.scene, answer)
    return answer in case.expected


def described_right(scene: Scene, answer: str) -> bool:
    """Every shape once, with its colour and a place that is true of its centre."""
    said = list(_OBJECT.findall(answer))
    wanted = list(scene.items)
    if len(said) != len(wanted):
        return False
    return _matched(said, wanted)


def _matched(said: list[tuple[str, str, str]], wanted: list[Item]) -> bool:
    if not said:
        return True
    colour, shape, where = said[0]
    for number, item in enumerate(wanted):
        if (item.colour, item.shape) == (colour, shape) and where in true_places(item):
            rest = wanted[:number] + wanted[number + 1 :]
            if _matched(said[1:], rest):
                return True
    return False


def true_places(item: Item) -> set[str]:
    """The words for a centre; on a border between thirds both neighbours are true."""
    return {place(item.x + dx, item.y + dy) for dx in (-MARGIN, 0, MARGIN) for dy in (-MARGIN, 0, MARGIN)}


def held_out(per_kind: int, seed: int = HELD_OUT_SEED) -> Iterator[Case]:
    """Questions of every kind about held-out drawings, one or two per picture."""
    rng = np.random.default_rng(seed)
    for kind, make in MAKERS.items():
        if kind == "description":
            continue
        made = 0
        while made < per_kind:
            scene = random_scene(rng, int(rng.integers(1, 6)), HELD_OUT_STYLE)
            if asked := make(scene, rng):
                size = int(rng.choice(HELD_OUT_STYLE.canvas))
                yield Case(kind, asked.question, (asked.answer,), draw(scene, size, rng), scene)
                made += 1
    for count in (1, 2, 3, 4, 5):
        made = 0
        while made < per_kind:
            scene = random_scene(rng, count, HELD_OUT_STYLE)
            asked = ask_description(scene, rng)
            if asked is None or len(scene.items) != count:
                continue
            pixels = draw(scene, int(rng.choice(HELD_OUT_STYLE.canvas)), rng)
            yield Case(f"description, {count}", asked.question, (asked.answer,), pixels, scene)
            made += 1


def crowds(number: int, seed: int = HELD_OUT_SEED) -> Iterator[Case]:
    """Held-out pictures where three to five shapes are the same: count those."""
    rng = np.random.default_rng((seed, 1))
    made = 0
    while made < number:
        scene = random_scene(rng, int(rng.integers(3, 6)), HELD_OUT_STYLE, repeat=0.9, alike=0.9)
        (noun, count), *_ = Counter(look(item) for item in scene.items).most_common(1)
        asked = MAKERS["count by colour and shape"](scene, rng)
        if count < 3 or asked is None or asked.answer != f"There are {count} {plural(noun)}.":
            continue
        pixels = draw(scene, int(rng.choice(HELD_OUT_STYLE.canvas)), rng)
        yield Case("count, three to five alike", asked.question, (asked.answer,), pixels, scene)
        made += 1


def easy_test(limit: int | None = None) -> Iterator[Case]:
    """easy-VQA's test split: 9,673 questions about 1,000 pictures, 64 x 64 as published."""
    names = {"yes": "easy-VQA yes/no", "no": "easy-VQA yes/no"}
    names |= dict.fromkeys(("circle", "rectangle", "triangle"), "easy-VQA shape")
    for picture in easy.pictures("test", original=True)[:limit]:
        for question, answer in picture.questions:
            group = names.get(answer, "easy-VQA colour")
            yield Case(group, question, (easy.spoken(answer),), picture.pixels)


REFUSALS = (NO_KNOWLEDGE, NO_THINGS, NO_READING)
UNSEEN_KNOWLEDGE = (
    "Who won the match yesterday?",
    "What is the tallest mountain in Asia?",
    "Can you book me a flight to Rome?",
    "Why is the sky blue?",
    "How many planets orbit our sun?",
    "Please write an essay on climate change",
    "Is it going to be sunny in Madrid tomorrow?",
    "Who painted the Mona Lisa?",
    "What's the square root of 144?",
    "Give me a recipe for lasagne",
    "what did Aristotle believe about ethics",
    "How do vaccines train the immune system?",
    "When did the Roman empire fall?",
    "Convert 10 miles to kilometres",
    "Which programming language should I learn first?",
    "Summarize the plot of Hamlet",
    "Do you think aliens exist?",
    "how can i lose weight quickly",
    "What is the GDP of Brazil?",
    "Recommend a good thriller for tonight.",
    "Fix this bug in my JavaScript code",
    "Who is the CEO of Microsoft?",
    "What causes earthquakes?",
    "Should I invest my savings in gold?",
    "How do you say goodbye in Italian?",
    "What is photosynthesis?",
    "Set an alarm for seven in the morning",
    "Where can I park near the stadium?",
    "Was Julius Caesar a good leader?",
    "Why do cats purr?",
)
UNSEEN_THINGS = (
    "What breed is this puppy?",
    "Is the lady in the photo smiling?",
    "Who is the guy on the left wearing?",
    "Does the picture contain a bicycle helmet?",
    "Are there any penguins in this image?",
    "How old do you think this woman is?",
    "What kind of car is that?",
    "Is there a kitten in the picture?",
    "Which celebrity is this?",
    "How many tigers are there?",
    "What is the boy eating?",
    "Where was this photograph taken?",
)
UNSEEN_READING = (
    "What does the headline say?",
    "Please read the label on the bottle.",
    "What word is printed on the shirt?",
    "Can you read the handwriting?",
    "What does the caption say?",
    "Read the licence plate.",
)
# Written without knowledge of the templates; what a template makes all the same is left out.
UNSEEN_CHAT = (
    ("heyyy snug", GREETING),
    ("Good morning, little one!", GREETING),
    ("yo, just got here", GREETING),
    ("hi again, it's me from yesterday", GREETING),
    ("thx a bunch", WELCOME),
    ("Much appreciated, Snug.", WELCOME),
    ("cheers for the help with that picture", WELCOME),
    ("ok got it, thank u so much!!", WELCOME),
    ("gotta run, dinner's ready", FAREWELL),
    ("See you tomorrow, Snug!", FAREWELL),
    ("alright im off to bed, night night", FAREWELL),
    ("That's all for today. Take care!", FAREWELL),
    ("hows it going over there", WELL),
    ("Are you having a good day so far?", WELL),
    ("you doing ok today snug?", WELL),
    ("So, how have you been lately?", WELL),
    ("do you have a name or something", IDENTITY),
    ("Tell me a bit about who you are.", IDENTITY),
    ("what kind of questions am i allowed to ask here", ABILITIES),
    ("I'm new to this. How does it work, do I just type something about the picture?", ABILITIES),
    ("give me some examples of stuff u can help with", ABILITIES),
    ("Could you explain how I'm supposed to use you?", ABILITIES),
    ("do you ever mess up?", LIMITS),
    ("Which things are too hard for you?", LIMITS),
    ("can i always trust what you tell me about a picture", LIMITS),
    ("Is there anything you're not able to answer?", LIMITS),
    ("r u a real person", MACHINE),
    ("Do you ever feel sad or lonely?", MACHINE),
    ("be honest, is there a human typing these replies?", MACHINE),
    ("So you're just a bot then, right?", MACHINE),
    ("Which company or person is behind you, Snug?", ORIGIN),
    ("where do you come from, like who trained you", ORIGIN),
    ("I'd love to know who your creator is.", ORIGIN),
    ("nope, that's not right at all", APOLOGY),
    ("You got it wrong, the circle is clearly blue.", APOLOGY),
    ("ugh that answer made no sense", APOLOGY),
    ("Hmm, I count four triangles, not three. Your answer was off.", APOLOGY),
    ("wow ur really good at this", MODEST_THANKS),
    ("What a clever little thing you are!", MODEST_THANKS),
    ("Spot on, I'm impressed.", MODEST_THANKS),
    ("you're the best shape expert ever snug :)", MODEST_THANKS),
)


def chat() -> Iterator[Case]:
    """Questions that no template makes, each with the answers that would be honest."""
    for question in UNSEEN_KNOWLEDGE:
        yield Case("unseen off-topic questions", question, (*REFUSALS, NO_PICTURE), None)
    picture = draw(
        Scene((Item("circle", "red", 0.3, 0.4, 0.15), Item("star", "blue", 0.7, 0.6, 0.15)), None),
        128,
        np.random.default_rng(3),
    )
    for question in UNSEEN_KNOWLEDGE + UNSEEN_THINGS + UNSEEN_READING:
        yield Case("unseen refusals with a picture", question, REFUSALS, picture)
    for question, answer in UNSEEN_CHAT:
        yield Case("unseen small talk", question, (answer,), None)


def score(cases: Sequence[Case], answers: Sequence[str]) -> list[Score]:
    """Per group, in order of appearance."""
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for case, answer in zip(cases, answers, strict=True):
        total[case.group] += 1
        right[case.group] += judge(case, answer)
    return [Score(group, right[group], count) for group, count in total.items()]
