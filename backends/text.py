"""Sentences as values: a code, an English template and its figures, so that all can be translated."""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

# A figure, a name, or a sentence inside a sentence (which is translated first).
Value: TypeAlias = "str | int | float | Text"

# As much of a name from a file as a sentence repeats.
_SHOWN_NAME = 80
_KIB = 1024
_UNITS = ("B", "KB", "MB", "GB", "TB")


def human_bytes(count: float) -> str:
    """Render a byte count the way task managers do: binary multiples, two to three digits."""
    sign, size = ("-", -count) if count < 0 else ("", float(count))
    unit = 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size /= _KIB
        unit += 1
    digits = 0 if unit == 0 or size >= 99.5 else 1
    return f"{sign}{size:.{digits}f} {_UNITS[unit]}"


def human_seconds(seconds: float) -> str:
    """Render a duration with the digits that a person can use."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 119.5 * 60:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 9.95 else f"{hours:.0f} h"


def human_rate(per_second: float) -> str:
    """Render tokens per second with one digit after the point, and with as many as the slowest need."""
    digits = 1
    while 0 < per_second < 0.95 / 10**digits and digits < 6:
        digits += 1
    return f"{per_second:.{digits}f}"


def plain(text: str) -> str:
    """Return `text` without characters that steer a terminal, break a line or turn the writing round."""
    if text.isprintable():
        return text
    # The spaces of other scripts do not count as printable; they may stand in a path.
    return "".join(
        letter if letter.isprintable() or unicodedata.category(letter) == "Zs" else "?" for letter in text
    )


def shown_name(name: str) -> str:
    """A name from somebody's file as a sentence may show it: plain and short."""
    short = plain(name[: _SHOWN_NAME + 1])
    return short if len(short) <= _SHOWN_NAME else short[:_SHOWN_NAME] + "..."


class _Formatter(string.Formatter):
    """Adds the format specs `bytes`, `seconds`, `rate` and `count` to the usual ones; names stay plain."""

    def format_field(self, value: Any, format_spec: str) -> str:  # noqa: ANN401 - the base class's signature
        match format_spec:
            case "bytes":
                return human_bytes(value)
            case "seconds":
                return human_seconds(value)
            case "rate":
                return human_rate(value)
            case "count":
                return f"{value:,}"
            case _:
                return plain(str(super().format_field(value, format_spec)))


def render(template: str, values: Mapping[str, Value]) -> str:
    """Fill `template` with `values`; specs `bytes`, `seconds`, `rate` and `count` are understood."""
    return _Formatter().vformat(template, (), values)


def reads_alike(one: float, other: float, spec: str) -> bool:
    """Whether a sentence shows both figures as the same, so that it can't claim that they differ."""
    return render("{figure:" + spec + "}", {"figure": one}) == render(
        "{figure:" + spec + "}", {"figure": other}
    )


@dataclass(frozen=True, slots=True)
class Text:
    """A translatable sentence.

    `code` is its key in ui/i18n; `template` is the English sentence; `values` are its figures.
    """

    code: str
    template: str
    values: tuple[tuple[str, Value], ...] = ()

    @classmethod
    def of(cls, code: str, template: str, **values: Value) -> Text:
        """Build a sentence from keyword figures."""
        return cls(code, template, tuple(values.items()))

    def __str__(self) -> str:
        return render(self.template, dict(self.values))
