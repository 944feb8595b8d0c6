"""Every visible string, in every language: keys for the page's own words, codes for the backends' sentences.

English sentences of the backends (errors, reasons, notes) stand where they are raised, as templates of
`backends.text.Text`; a catalog translates them by code, and what a catalog lacks is shown in English.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from backends.text import Text, Value, render

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")


@cache
def catalog(language: Language) -> Mapping[str, str]:
    """Read the strings of `language`: key or code -> template."""
    path = Path(__file__).with_name(f"{language}.json")
    content: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return content


class _Localised(string.Formatter):
    """Fills templates like `backends.text.render`, with the units of time in words of the language."""

    def __init__(self, units: Mapping[str, str]) -> None:
        self._units = units

    def format_field(self, value: Any, format_spec: str) -> str:  # noqa: ANN401 - the base class's signature
        rendered = render("{value:" + format_spec + "}", {"value": value})
        if format_spec != "seconds":
            return rendered
        figure, _, unit = rendered.rpartition(" ")
        return f"{figure} {self._units.get(unit, unit)}"


class Translator:
    """Says things in one language. `say(key, **values)` for own words, `say.text(Text)` for sentences."""

    def __init__(self, language: Language) -> None:
        self.language = language
        units = {unit: catalog(language).get(f"unit.{unit}", unit) for unit in ("ms", "s", "min", "h")}
        self._formatter = _Localised(units)

    def __call__(self, key: str, **values: Value) -> str:
        """Render the string `key`; raises KeyError for a key that no catalog has."""
        template = catalog(self.language).get(key) or catalog("en")[key]
        return self._formatter.vformat(template, (), self._translated(values))

    def text(self, text: Text | str) -> str:
        """Render a sentence of the backends, and the sentences inside it first."""
        if isinstance(text, str):
            return text
        template = catalog(self.language).get(text.code, text.template)
        return self._formatter.vformat(template, (), self._translated(dict(text.values)))

    def _translated(self, values: Mapping[str, Value]) -> dict[str, Value]:
        return {
            name: self.text(value) if isinstance(value, Text) else value for name, value in values.items()
        }


def terminal_language(environ: Mapping[str, str]) -> Language:
    """`SNUG_LANG`, else English: a terminal's locale says little about what its owner wants to read."""
    chosen = environ.get("SNUG_LANG", "")[:2].lower()
    return "zh" if chosen == "zh" else "en"
