"""Records of which layout of a CLIP tower the installed llama.cpp reads best, beside the converted files."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from backends.conversion.cache import RECORD
from backends.conversion.types import Layout

_log = logging.getLogger(__name__)
# The record of the library alone, compared with the help of a tiny random tower.
LIBRARY = "library"
_PACKAGE = "xllamacpp"


class Compared(StrEnum):
    """What was compared with transformers: the model's own tower, a tiny random one, or nothing."""

    MODEL = "model"
    LIBRARY = "library"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Choice:
    """The layout that the version `library` of xllamacpp reads best.

    `gaps` are by layout: how far the answers' probabilities are from transformers' (mean Kullback-Leibler
    divergence, in nats). `compared` is `MODEL` unless that comparison failed: it is tried again then.
    """

    layout: Layout
    library: str
    gaps: Mapping[str, float] = field(default_factory=dict)
    compared: Compared = Compared.MODEL

    @property
    def settled(self) -> bool:
        """Whether the model's own tower was compared."""
        return self.compared is Compared.MODEL

    @property
    def gap(self) -> float | None:
        """That of the chosen layout; None where nothing was compared."""
        return self.gaps.get(self.layout.value)


def library_version() -> str:
    """The installed version of xllamacpp, without importing it; "" where there is none."""
    try:
        return version(_PACKAGE)
    except PackageNotFoundError:
        return ""


def best(gaps: Mapping[Layout, float]) -> Layout:
    """The layout with the smallest gap; the plain one where it is as good, up to a tenth.

    A library that is repaired reads the plain layout right: its gap is then a rounding error.
    """
    smallest = min(gaps.values())
    order = [layout for layout in Layout if layout in gaps]
    return next(
        layout for layout in order if gaps[layout] <= (1.1 if layout is Layout.PLAIN else 1) * smallest
    )


def record_of(cache: Path, stem: str) -> Path:
    """Where the record lies, made or not."""
    return cache / (stem + RECORD)


def read(cache: Path, stem: str, library: str) -> Choice | None:
    """What was chosen with this version of the library, for the checkpoint with this `stem` or for `LIBRARY`.

    None without a record that can be read.
    """
    try:
        document = json.loads(record_of(cache, stem).read_text(encoding="utf-8"))
        found = Choice(
            Layout(document["layout"]),
            str(document["library"]),
            {str(layout): float(gap) for layout, gap in document["gaps"].items()},
            Compared(document.get("compared", Compared.MODEL)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    told = found.library == library and found.compared is not Compared.NOTHING
    return found if told else None


def write(cache: Path, stem: str, choice: Choice) -> None:
    """Keep `choice`; where it can't be kept, the comparison is made again next time."""
    path = record_of(cache, stem)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    document = {
        "layout": choice.layout.value,
        "library": choice.library,
        "gaps": dict(choice.gaps),
        "compared": choice.compared.value,
    }
    try:
        cache.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(document, indent=1), encoding="utf-8")
        part.replace(path)
    except OSError:
        _log.warning("%s could not be written.", path, exc_info=True)
        with suppress(OSError):
            part.unlink()
