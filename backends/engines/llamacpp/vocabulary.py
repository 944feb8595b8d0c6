"""The words that a GGUF file says are no text: control tokens, and how its conversations begin and end."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backends.models.gguf_header import GgufHeader, read_gguf_arrays

_TOKENS, _TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
_UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 2, 3, 4, 6
# Markup that some conversions list among words which are only kept whole.
_MARKUP = re.compile(r"<\|[^|<>]+\|>|<(?:start|end)_of_\w+>|\[/?INST\]")
_BYTE_NAME = re.compile(rb"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """`control` is markup that only a template may write; `start` and `end` are the texts of those tokens.

    `added` are all tokens that a text is searched for before anything else is done with it.
    """

    control: tuple[str, ...]
    start: str
    end: str
    added: tuple[str, ...] = ()


def read_vocabulary(path: Path, header: GgufHeader) -> Vocabulary:
    """Read it from the model's first file. Raises ModelDamaged like `read_gguf_header`."""
    arrays = read_gguf_arrays(path, (_TOKENS, _TYPES))
    tokens: Sequence[bytes] = arrays.get(_TOKENS, ())
    types: Sequence[int] = arrays.get(_TYPES, ())
    control, added = [], []
    for token, kind in zip(tokens, types, strict=False):
        if kind not in (_UNKNOWN, _CONTROL, _USER_DEFINED):
            continue
        text = token.decode("utf-8", "replace")
        added.append(text)
        if kind != _USER_DEFINED or _MARKUP.fullmatch(text):
            control.append(text)

    def named(key: str) -> str:
        number = header.values.get(f"tokenizer.ggml.{key}_token_id")
        known = type(number) is int and 0 <= number < len(tokens)
        return tokens[number].decode("utf-8", "replace") if known and type(number) is int else ""

    return Vocabulary(tuple(control), named("bos"), named("eos"), tuple(added))


def read_fragments(path: Path, header: GgufHeader) -> dict[int, bytes]:
    """The tokens that hold parts of characters: id -> bytes. Takes a moment, and few answers need it."""
    arrays = read_gguf_arrays(path, (_TOKENS, _TYPES))
    byte_level = header.text("tokenizer.ggml.model") == "gpt2"
    alphabet = _byte_alphabet() if byte_level else {}
    found: dict[int, bytes] = {}
    for number, (token, kind) in enumerate(
        zip(arrays.get(_TOKENS, ()), arrays.get(_TYPES, ()), strict=False)
    ):
        if token.isascii() and kind != _BYTE:
            continue
        if kind == _BYTE and (name := _BYTE_NAME.fullmatch(token)):
            found[number] = bytes([int(name[1], 16)])
        elif byte_level and kind not in (_CONTROL, _USER_DEFINED):
            piece = _unmapped(token.decode("utf-8", "replace"), alphabet)
            if piece is not None and not _is_text(piece):
                found[number] = piece
    return {number: piece for number, piece in found.items() if not piece.isascii()}


def spelled(text: bytes, count: int, fragments: Mapping[int, bytes]) -> tuple[int, ...] | None:
    """The `count` tokens among `fragments` that `text` was put together from; None where there are none.

    Where several would do, one of those with the longest pieces first. Takes time in proportion to the length
    of `text`, to `count` and to the longest piece.
    """
    if count > len(text):
        return None
    numbers: dict[bytes, int] = {}
    for number in sorted(fragments):
        numbers.setdefault(fragments[number], number)
    longest = max(map(len, numbers), default=0)
    # Where a piece that begins at a place can end, the longest first.
    ends = [
        [end for end in range(min(len(text), at + longest), at, -1) if text[at:end] in numbers]
        for at in range(len(text))
    ]
    # The places from which so many pieces lead to the end of the text.
    leading = [{len(text)}]
    for _ in range(count):
        leading.append({at for at, found in enumerate(ends) if not leading[-1].isdisjoint(found)})
    if 0 not in leading[count]:
        return None
    ids, at = [], 0
    for left in range(count - 1, -1, -1):
        end = next(end for end in ends[at] if end in leading[left])
        ids.append(numbers[text[at:end]])
        at = end
    return tuple(ids)


def _unmapped(token: str, alphabet: Mapping[str, int]) -> bytes | None:
    """The bytes that a byte-level token stands for; None for one that is written as it is."""
    try:
        return bytes(alphabet[letter] for letter in token)
    except KeyError:
        return None


def _is_text(piece: bytes) -> bool:
    try:
        piece.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _byte_alphabet() -> dict[str, int]:
    """How byte-level vocabularies write bytes: printable ones as they are, the rest from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + index): byte for index, byte in enumerate(others)
    }
