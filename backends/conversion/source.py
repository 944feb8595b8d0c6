"""A checkpoint's weight files, read a few rows at a time."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from backends.conversion.refusal import LANGUAGE, refused
from backends.errors import ModelDamaged
from backends.models.checkpoint import read_headers
from backends.models.types import Tensor
from backends.text import Text

# torch's name of a float -> how its bits are read (bfloat16, which numpy lacks, as whole numbers).
_STORED: dict[str, str] = {"bfloat16": "<u2", "float16": "<f2", "float32": "<f4", "float64": "<f8"}


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a tensor's data begins in its file, in bytes."""

    tensor: Tensor
    begin: int

    @property
    def width(self) -> int:
        """Numbers in a row; a vector is one row."""
        shape = self.tensor.shape
        return self.tensor.parameters // max(1, shape[0] if len(shape) > 1 else 1)


def stored_tensors(folder: Path, names: Mapping[str, str]) -> dict[str, Stored]:
    """Every tensor of the checkpoint by its name in the loaded model, which `names` gives for the file's."""
    found: dict[str, Stored] = {}
    for header in read_headers(folder):
        for tensor, begin in zip(header.tensors, header.begins, strict=True):
            found[names.get(tensor.name, tensor.name)] = Stored(tensor, begin)
    return found


class Rows:
    """Opens the files of a checkpoint for as long as the block lasts. One thread reads."""

    def __init__(self, folder: Path, tensors: Mapping[str, Stored]) -> None:
        self._folder, self._tensors = folder, tensors
        self._files: dict[str, BinaryIO] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def dtype(self, name: str) -> str:
        """What torch calls the numbers of a tensor. Raises ModelUnsupported when these are no floats."""
        dtype = self._tensors[name].tensor.dtype
        if dtype not in _STORED:
            raise refused(self._folder, LANGUAGE, dtype)
        return dtype

    def rows(self, name: str) -> int:
        """Rows of the tensor."""
        shape = self._tensors[name].tensor.shape
        return shape[0] if len(shape) > 1 else 1

    def read(self, name: str, begin: int, end: int) -> NDArray[Any]:
        """Rows `begin` to `end` of the tensor, as one line of stored numbers.

        Raises ModelDamaged when the file has become shorter, or can't be read.
        """
        stored = self._tensors[name]
        kind = np.dtype(_STORED[self.dtype(name)])
        count = (end - begin) * stored.width
        try:
            file = self._file(stored.tensor.file)
            file.seek(stored.begin + begin * stored.width * kind.itemsize)
            numbers: NDArray[Any] = np.fromfile(file, kind, count)
        except OSError as error:
            raise self._unreadable(stored) from error
        if numbers.size < count:
            raise self._unreadable(stored)
        return numbers

    def _file(self, name: str) -> BinaryIO:
        if name not in self._files:
            self._files[name] = self._stack.enter_context((self._folder / name).open("rb", buffering=0))
        return self._files[name]

    def _unreadable(self, stored: Stored) -> ModelDamaged:
        file = stored.tensor.file
        detail = Text.of("convert.unreadable", "{file} can't be read to its end.", file=file)
        return ModelDamaged(path=str(self._folder), detail=detail, file=file)
