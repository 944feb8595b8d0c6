"""The tokenizer: a byte-level BPE of 1,024 entries, learned from the questions and answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from assets.training.questions import MAKERS
from assets.training.scenes import COLOURS, SHAPES, random_scene
from assets.training.smalltalk import CHAT, SYSTEM_PROMPTS, off_topic
from assets.training.truth import COLOUR, SHAPE
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


def word_rows(tokenizer: Tokenizer) -> dict[int, int]:
    """Token numbers of colour and shape words, to their place in a patch's description."""
    rows: dict[int, int] = {}
    for first, words in ((SHAPE, SHAPES), (COLOUR, COLOURS)):
        for number, word in enumerate(words):
            for form in (word, plural(word), word.replace("gray", "grey")):
                ids = tokenizer.encode(f" {form}", add_special_tokens=False).ids
                if len(ids) == 1:
                    rows[ids[0]] = first + number
    return rows
