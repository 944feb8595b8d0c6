"""A tokenizer's words as GGUF stores them: text, score and kind of each, and the pairs that are merged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from backends.conversion.types import Value

_PREFIX = "tokenizer.ggml."


class Kind(IntEnum):
    """What a word is: SentencePiece's numbers, which GGUF took over."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its score (SentencePiece merges the pair of the highest score first)."""

    text: str
    kind: Kind = Kind.NORMAL
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Words:
    """A tokenizer's words by id, in the form of `model` (`gpt2`: byte-level pairs, `llama`: SentencePiece).

    `pre` names the rule that splits text before pairs are merged. `space` tells whether a text gets a space
    before it: `""` never, `first` at its beginning, `every` after each special token, too. `composed`: text
    is brought into Unicode's composed form (NFC) first, which llama.cpp leaves to its caller.
    """

    model: str
    by_id: Mapping[int, Word]
    pre: str = "default"
    merges: tuple[str, ...] = ()
    space: str = ""
    composed: bool = False
    ids: Mapping[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", {word.text: number for number, word in self.by_id.items()})


def with_added(words: Mapping[int, Word], added: Iterable[tuple[int, str, bool]]) -> dict[int, Word]:
    """Put added tokens (id, text, whether special) over the words of the model."""
    merged = dict(words)
    for number, text, special in added:
        before = merged.get(number)
        if before is not None and before.kind in {Kind.UNKNOWN, Kind.BYTE}:
            continue
        merged[number] = Word(text, Kind.CONTROL if special else Kind.USER_DEFINED)
    return merged


def word_values(words: Words, rows: int) -> dict[str, Value]:
    """Metadata for an embedding table of `rows` rows.

    Rows without a word get a made-up one. A word beyond the table has no meaning to the model and is left
    out; a text that two ids share stays with the first, since llama.cpp ends when it meets it again.
    """
    listed: list[Word] = []
    seen: set[str] = set()
    for number in range(rows):
        word = words.by_id.get(number, Word("", Kind.UNUSED))
        if not word.text or word.text in seen:
            word = Word(_made_up(number, seen, words), Kind.UNUSED)
        seen.add(word.text)
        listed.append(word)
    values: dict[str, Value] = {
        "model": words.model,
        "pre": words.pre,
        "tokens": tuple(word.text for word in listed),
        "token_type": tuple(int(word.kind) for word in listed),
    }
    if words.model == "llama":
        values["scores"] = tuple(float(word.score) for word in listed)
        # llama.cpp's own prefix comes after each special token. At the beginning alone, the caller writes it.
        values["add_space_prefix"] = words.space == "every"
    if words.merges:
        values["merges"] = words.merges
    found: dict[str, Value] = {_PREFIX + key: value for key, value in values.items()}
    return found | {"snug.space_prefix": words.space or "none", "snug.composed_text": words.composed}


def _made_up(number: int, seen: set[str], words: Words) -> str:
    text = f"[PAD{number}]"
    while text in seen or text in words.ids:
        text = f"[{text}]"
    return text
