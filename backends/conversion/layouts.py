"""The record of which order of picture positions the library reads right, kept beside the converted files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from backends.conversion.types import Layout


@dataclass(frozen=True, slots=True)
class Choice:
    """What comparing with transformers chose for the version `library`.

    `gaps` is the largest difference that each layout made, by the layout's name.
    """

    layout: Layout
    library: str
    gaps: Mapping[str, float]


def record_of(cache: Path, stem: str) -> Path:
    """Where the record lies, made or not."""
    return cache / f"{stem}-layout.json"


def read(cache: Path, stem: str, library: str) -> Choice | None:
    """The choice that was made with this version of the library; None without one that can be read."""
    try:
        found = json.loads(record_of(cache, stem).read_text(encoding="utf-8"))
        gaps = {str(name): float(gap) for name, gap in found["gaps"].items()}
        choice = Choice(Layout(found["layout"]), str(found["library"]), gaps)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return choice if choice.library == library else None
