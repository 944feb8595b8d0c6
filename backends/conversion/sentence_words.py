"""SentencePiece pair encodings (Llama 1 and 2, Vicuna, Mistral) from a tokenizer.model or tokenizer.json."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.conversion.byte_words import added_tokens, steps
from backends.conversion.refusal import TOKENIZER, refused
from backends.conversion.words import Kind, Word, Words, with_added
from backends.errors import ModelDamaged
from backends.text import Text

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_SPACE = "\u2581"
# Fields of SentencePiece's model file (its sentencepiece_model.proto).
_PIECE, _TRAINER, _NORMALIZER = 1, 2, 3
_TEXT, _SCORE, _KIND, _MODEL_TYPE, _ADD_DUMMY_PREFIX = 1, 2, 3, 3, 3
_BPE = 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class _Message:
    """The fields of a protobuf message: number -> values in order; bytes, or bits of a number."""

    fields: Mapping[int, list[bytes | int]]

    def number(self, field: int, default: int) -> int:
        found = self.fields.get(field, [default])[-1]
        return found if isinstance(found, int) else default

    def messages(self, field: int) -> Iterator[_Message]:
        for raw in self.fields.get(field, []):
            if isinstance(raw, bytes):
                yield _message(raw)


def read_piece_words(path: Path, added: list[tuple[int, str, bool]]) -> Words:
    """Read SentencePiece's own file `path`, and put `added` tokens over its words.

    Raises ModelUnsupported for other models than pair encodings, ModelDamaged for a broken file.
    """
    try:
        whole = _message(path.read_bytes())
        words = {number: _word(piece) for number, piece in enumerate(whole.messages(_PIECE))}
        kinds = [trainer.number(_MODEL_TYPE, 1) for trainer in whole.messages(_TRAINER)]
        prefix = [rules.number(_ADD_DUMMY_PREFIX, 1) for rules in whole.messages(_NORMALIZER)]
    except (IndexError, ValueError, struct.error, UnicodeDecodeError, OSError) as error:
        detail = Text.of("convert.pieces", "{file} is not a file of SentencePiece.", file=path.name)
        raise ModelDamaged(path=str(path.parent), detail=detail, file=path.name) from error
    if not words or kinds[-1:] != [_BPE]:
        raise refused(path.parent, TOKENIZER, "SentencePiece, unigram" if words else path.name)
    space = "every" if prefix[-1:] != [0] else ""
    return Words("llama", with_added(words, _spaced(added)), space=space)


def read_merged_words(folder: Path, document: Mapping[str, Any]) -> Words:
    """Read the words of a tokenizer.json that was made from SentencePiece's file.

    It has merges in the place of scores: the earlier a word is put together, the higher its score.
    """
    model = document["model"]
    if model.get("type") != "BPE" or not model.get("byte_fallback"):
        raise refused(folder, TOKENIZER, model.get("type"))
    changes = [step.get("type") for step in steps(document.get("normalizer"))]
    if set(changes) - {"Prepend", "Replace"}:
        raise refused(folder, TOKENIZER, ", ".join(map(str, changes)))
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(model["merges"]):
        left, right = pair.split(" ", 1) if isinstance(pair, str) else pair
        ranks.setdefault(left + right, rank)
    unknown, last = model.get("unk_token"), len(model["merges"])
    words: dict[int, Word] = {}
    for text, number in model["vocab"].items():
        if _BYTE.fullmatch(text):
            words[int(number)] = Word(text, Kind.BYTE)
        elif text == unknown:
            words[int(number)] = Word(text, Kind.UNKNOWN)
        else:
            words[int(number)] = Word(text, score=-float(ranks.get(text, last)))
    return Words("llama", with_added(words, _spaced(added_tokens(document))), space=_space(document))


def _space(document: Mapping[str, Any]) -> str:
    for step in steps(document.get("normalizer")):
        if step.get("type") == "Prepend":
            return "every"
    for step in steps(document.get("pre_tokenizer")):
        if step.get("type") == "Metaspace":
            return {"first": "first", "never": ""}.get(str(step.get("prepend_scheme", "always")), "every")
    return ""


def _spaced(added: list[tuple[int, str, bool]]) -> list[tuple[int, str, bool]]:
    """Added tokens are found in the text as it is, with spaces."""
    return [(number, text.replace(_SPACE, " "), special) for number, text, special in added]


def _word(piece: _Message) -> Word:
    text, score = piece.fields[_TEXT][-1], piece.fields.get(_SCORE, [0])[-1]
    if not isinstance(text, bytes) or not isinstance(score, int):
        raise ValueError("another type of field")  # noqa: TRY004 - a broken file, no mistake of the caller
    value = struct.unpack("<f", struct.pack("<I", score))[0]
    return Word(text.decode("utf-8"), Kind(piece.number(_KIND, Kind.NORMAL)), value)


def _message(raw: bytes) -> _Message:
    """Split a message into its fields (protobuf's wire format). Raises IndexError or ValueError."""
    fields: dict[int, list[bytes | int]] = {}
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        field, wire = key >> 3, key & 7
        value: bytes | int
        if wire == _VARINT:
            value, at = _varint(raw, at)
        else:
            size = {_FIXED64: 8, _FIXED32: 4}.get(wire, 0)
            if wire == _BYTES:
                size, at = _varint(raw, at)
            elif not size:
                raise ValueError("an unknown wire type")
            if at + size > len(raw):
                raise IndexError("a field beyond the end")
            part, at = raw[at : at + size], at + size
            value = part if wire == _BYTES else int.from_bytes(part, "little")
        fields.setdefault(field, []).append(value)
    return _Message(fields)


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number without end")
