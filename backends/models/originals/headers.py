"""Where the parts of a recipe lie in their files; each file's header is read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from backends.models.originals.types import Part
from backends.models.weight_files import Located, weight_tensors


class Headers:
    """The headers of a recipe's files, as they are asked for. For one thread at a time."""

    def __init__(self) -> None:
        self._read: dict[Path, Mapping[str, Located]] = {}

    def of(self, part: Part) -> Located:
        """The tensor and where its data begins; of fused ones the rows that are meant.

        Raises ModelDamaged, ModelUnsupported, or KeyError for a tensor that is none of the file's.
        """
        if part.file not in self._read:
            self._read[part.file] = weight_tensors(part.file)
        whole = self._read[part.file][part.key]
        if part.rows is None:
            return whole
        begin, end = part.rows
        row = whole.tensor.nbytes // max(1, whole.tensor.shape[0])
        shape = (end - begin, *whole.tensor.shape[1:])
        rows = replace(whole.tensor, shape=shape, nbytes=(end - begin) * row)
        return Located(rows, whole.offset + begin * row)
