"""Counts the words of a SentencePiece model without the library: special ids follow them."""

from __future__ import annotations

from pathlib import Path

_MOST_BYTES = 1 << 26
# The field of one piece in sentencepiece_model.proto.
_PIECE = 1


def count_pieces(path: Path) -> int | None:
    """The number of pieces in the SentencePiece model `path`; None where it is no such file, or a huge one.

    Raises OSError.
    """
    if path.stat().st_size > _MOST_BYTES:
        return None
    raw = path.read_bytes()
    found = place = 0
    try:
        while place < len(raw):
            key, place = _varint(raw, place)
            match key & 7:
                case 0:
                    _, place = _varint(raw, place)
                case 1:
                    place += 8
                case 2:
                    length, place = _varint(raw, place)
                    place += length
                    found += key >> 3 == _PIECE
                case 5:
                    place += 4
                case _:
                    return None
    except IndexError:
        return None
    return found if found and place == len(raw) else None


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    """A number of up to ten bytes, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = raw[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise IndexError
