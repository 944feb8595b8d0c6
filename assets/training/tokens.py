"""The tokenizer: a byte-level BPE of 1,024 entries, learned from the questions and answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from assets.training.questions import MAKERS
from assets.training.scenes import COLOURS, SHAPES, random_scene
from assets.training.smalltalk import CHAT, SYSTEM_PROMPTS, off_topic
from assets.training.truth import ATTRIBUTES, BINS, CENTRE_X, CENTRE_Y, COLOUR, SHAPE
from assets.training.words import plural

PAD, START, END, IMAGE = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>"
PAD_ID, START_ID, END_ID, IMAGE_ID = 0, 1, 2, 3
VOCABULARY = 1024
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['content'] is string %}"
    "{{ message['content'] | trim }}"
    "{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}"
    "{{ part['text'] | trim }}{% if not loop.last %}{{ ' ' }}{% endif %}"
    "{% endfor %}"
    "{% endif %}"
    "{{ '<|im_end|>' }}{% if not loop.last %}{{ '\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n<|im_start|>assistant\\n' }}{% endif %}"
)


def _corpus(seed: int, size: int) -> Iterator[str]:
    rng = np.random.default_rng((seed, 9))
    yield from CHAT.values()
    yield from SYSTEM_PROMPTS
    for _ in range(size):
        scene = random_scene(rng, int(rng.integers(1, 4)))
        for make in MAKERS.values():
            if asked := make(scene, rng):
                yield f"user\n{asked.question}"
                yield f"assistant\n{asked.answer}"
        for _ in range(4):
            asked = off_topic(rng, with_picture=True)
            yield f"system\n{asked.question}"
            yield asked.answer


def train_tokenizer(seed: int = 7, size: int = 2500) -> Tokenizer:
    """Learn the merges; the same seed gives the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, START, END, IMAGE],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(seed, size), trainer)
    assert tokenizer.get_vocab_size() == VOCABULARY, tokenizer.get_vocab_size()
    assert [tokenizer.token_to_id(t) for t in (PAD, START, END, IMAGE)] == [0, 1, 2, 3]
    return tokenizer


def tokenizer_at(path: Path, seed: int = 7) -> Tokenizer:
    """The tokenizer in this file, made first when there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        train_tokenizer(seed).save(str(partial))
        partial.replace(path)
    return Tokenizer.from_file(str(path))


def word_meanings(tokenizer: Tokenizer) -> dict[int, Tensor]:
    """Token numbers of the words for what patches show, to a patch's description (64 numbers)."""
    parts = {word: [SHAPE + i] for i, word in enumerate(SHAPES)}
    parts |= {word: [COLOUR + i] for i, word in enumerate(COLOURS)}
    parts |= {plural(shape): parts[shape] for shape in SHAPES} | {"grey": parts["gray"]}
    third = BINS // 3
    parts["left"] = [CENTRE_X + i for i in range(third)]
    parts["right"] = [CENTRE_X + i for i in range(2 * third, BINS)]
    parts["top"] = [CENTRE_Y + i for i in range(third)]
    parts["bottom"] = [CENTRE_Y + i for i in range(2 * third, BINS)]
    parts["middle"] = [first + i for first in (CENTRE_X, CENTRE_Y) for i in range(third, 2 * third)]
    meanings: dict[int, Tensor] = {}
    for word, numbers in parts.items():
        ids = tokenizer.encode(f" {word}", add_special_tokens=False).ids
        if len(ids) == 1:
            meanings[ids[0]] = torch.zeros(ATTRIBUTES).index_fill(0, torch.tensor(numbers), 1.0)
    return meanings
