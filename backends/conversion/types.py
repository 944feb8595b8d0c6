"""What a conversion takes and makes, as values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from backends.models.types import ModelInfo
from backends.text import Text

Scalar: TypeAlias = "bool | int | float | str"
Value: TypeAlias = "Scalar | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]"


class WeightType(StrEnum):
    """How numbers are written. Vectors are F32 always; a quantized type is meant for matrices."""

    F32 = "f32"
    F16 = "f16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"

    @property
    def block(self) -> int:
        """Numbers that share a scale; a row has a whole number of blocks."""
        return 32 if self in {WeightType.Q8_0, WeightType.Q4_0} else 1

    @property
    def block_bytes(self) -> int:
        """Bytes of a block: two of the scale, then one or half a byte a number."""
        return {WeightType.F32: 4, WeightType.F16: 2, WeightType.Q8_0: 34, WeightType.Q4_0: 18}[self]


class Layout(StrEnum):
    """The order of a CLIP tower's positions in the file, as the library that reads it needs it.

    A library that puts the class token behind the patches reads `ROTATED` right (positions 1..N, then 0), or
    `NO_CLASS` (no class token at all, positions 1..N); one that puts it before them reads `PLAIN`.
    """

    PLAIN = "plain"
    ROTATED = "rotated"
    NO_CLASS = "no_class"


@dataclass(frozen=True, slots=True)
class Piece:
    """One tensor of the new file: rows of the checkpoint's tensor `source`, or the numbers in `values`.

    `shape` is torch's. Row i of it is row `(i + shift) % rows` of the source. `heads` is how many heads' rows
    are put into the order of interleaved rotary positions (0: rows stay).
    """

    name: str
    shape: tuple[int, ...]
    kind: WeightType
    source: str = ""
    shift: int = 0
    heads: int = 0
    values: tuple[float, ...] = ()

    @property
    def rows(self) -> int:
        """Rows that are converted one by one; a vector is one row."""
        return self.shape[0] if len(self.shape) > 1 else 1

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return math.prod(self.shape) // max(1, self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes in the new file, without what aligns the next one."""
        return math.prod(self.shape) // self.kind.block * self.kind.block_bytes


@dataclass(frozen=True, slots=True)
class Document:
    """A GGUF file to be written: metadata (the architecture aside) and tensors."""

    architecture: str
    values: Mapping[str, Value]
    pieces: tuple[Piece, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the file, at most: tensors, names and words."""
        words = sum(_value_bytes(value) for value in self.values.values())
        infos = sum(len(piece.name) + 128 for piece in self.pieces)
        return sum(piece.nbytes for piece in self.pieces) + infos + words + 128 * len(self.values) + 4096


def _value_bytes(value: Value) -> int:
    if isinstance(value, tuple):
        return sum(_value_bytes(item) for item in value) + 16
    return 8 + len(value.encode("utf-8", errors="replace")) if isinstance(value, str) else 8


@dataclass(frozen=True, slots=True)
class Request:
    """What to convert: the checkpoint in `folder` into `cache`.

    `kind` is for the language model's matrices, `vision_kind` for those of the picture part, which is written
    in the given `layout`; without a layout, the language model alone is written. `threads` convert
    beside the one that reads and writes.
    """

    folder: Path
    cache: Path
    kind: WeightType = WeightType.Q8_0
    layout: Layout | None = None
    vision_kind: WeightType = WeightType.F16
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Converted:
    """The files of a converted checkpoint; `mmproj` is its picture part."""

    text: Path
    mmproj: Path | None


@dataclass(frozen=True, slots=True)
class Conversion:
    """What an engine has to convert before it loads: part of a plan.

    `cache` is the folder of converted files. `kind` and `vision_kind` are what matrices are written in
    (`vision_kind` None: no picture part). `nbytes` are those of the new files, `source_bytes` those of the
    weights that are read: of all where they are `ready`, else of what is missing. `layout` is the order of
    the tower's positions that comparing with transformers chose (None: not compared yet, or no picture part).
    `compared` is whose tower was compared: its own ("model"), or a random one where that failed ("library"):
    its own is tried again then at the next load. `gap` is how far answers are from transformers' with that
    layout (mean Kullback-Leibler divergence, in nats).
    """

    cache: str
    kind: WeightType
    vision_kind: WeightType | None
    nbytes: int
    source_bytes: int
    ready: bool = False
    layout: Layout | None = None
    compared: str | None = None
    gap: float | None = None

    @property
    def compares(self) -> bool:
        """Whether a load compares layouts."""
        return self.vision_kind is not None and (self.layout is None or self.compared == "library")


@dataclass(frozen=True, slots=True)
class Variant:
    """A form that a checkpoint can be converted to. `model` is what its GGUF files will hold.

    The modules of `model` have the checkpoint's names, its `path` is the checkpoint's, its format is `gguf`.
    `afresh` is the conversion where nothing has been converted yet, if that is another one.
    """

    model: ModelInfo
    conversion: Conversion
    afresh: Conversion | None = None


@dataclass(frozen=True, slots=True)
class Offers:
    """What a checkpoint can be converted to, in the order of `WeightType`; `why_not` where that is nothing.

    Without both, nobody asked: the model is a GGUF file, or a plan is made without conversions.
    """

    variants: tuple[Variant, ...] = ()
    why_not: Text | None = None
