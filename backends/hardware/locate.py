"""Where in a JSON text a value stands, so that an error can name the line."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def line_of(text: str, path: Sequence[str | int]) -> int | None:
    """Return the line (from 1) of the value at `path` in the valid JSON `text`.

    Where the path ends early because a key is missing, the line of the innermost object that exists.
    """
    position = _skip(text, 0)
    for step in path:
        entry = _entry(text, position, step)
        if entry is None:
            break
        position = entry
    return text.count("\n", 0, position) + 1


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _entry(text: str, position: int, step: str | int) -> int | None:
    """Return where the value of key or number `step` of the object or list at `position` begins."""
    opening = text[position]
    if opening not in "{[" or isinstance(step, str) != (opening == "{"):
        return None
    position = _skip(text, position + 1)
    number = 0
    while text[position] not in "}]":
        here: str | int = number
        if opening == "{":
            here, position = _DECODER.raw_decode(text, position)
            position = _skip(text, _skip(text, position) + 1)
        if here == step:
            return position
        _, position = _DECODER.raw_decode(text, position)
        position = _skip(text, position)
        if text[position] == ",":
            position = _skip(text, position + 1)
        number += 1
    return None
