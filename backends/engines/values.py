"""Tensors of a recipe, each read when transformers asks for it: windows into files, copies, merged LoRAs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from backends.engines.located import Place, read, window
from backends.models.originals.headers import Headers
from backends.models.originals.types import Part, Source

# Rows of a weight that are merged at once: 64 MiB of float32 where the weight is 16,384 wide.
_ROWS = 1024


def place_of(part: Part, headers: Headers) -> Place:
    """Where the values of `part` are, as torch reads them. Raises what `Headers.of` does."""
    found = headers.of(part)
    dtype: torch.dtype = getattr(torch, found.tensor.dtype)
    return Place(part.file, found.offset, dtype, found.tensor.shape)


class Value:
    """Stands for a tensor in a state dict: `[...]` gives it, as a window into its file.

    A window goes, and its pages with it, once something else was made of it: a load holds no more of a file
    than it is converting. What a LoRA changes is merged in `dtype`, some rows at a time, so that it takes no
    more memory than any other tensor.
    """

    def __init__(self, headers: Headers, source: Source, dtype: torch.dtype) -> None:
        self._place = place_of(source.part, headers)
        self._added = [
            (place_of(delta.up, headers), place_of(delta.down, headers), delta) for delta in source.deltas
        ]
        self._dtype = dtype

    @property
    def nbytes(self) -> int:
        """Bytes that are read."""
        return self._place.nbytes + sum(up.nbytes + down.nbytes for up, down, _ in self._added)

    def __getitem__(self, _: Any) -> torch.Tensor:
        values = window(self._place)
        if not self._added:
            return values
        added = [(read(up).float(), read(down).float(), delta) for up, down, delta in self._added]
        merged = torch.empty(values.shape, dtype=self._dtype)
        for start in range(0, values.shape[0], _ROWS):
            rows = slice(start, start + _ROWS)
            # In float32: sums in half precision would lose most of what is added.
            sums = values[rows].float()
            for up, down, delta in added:
                product = down.T[rows] @ up.T if delta.turned else up[rows] @ down
                sums.add_(product, alpha=delta.scale)
            merged[rows] = sums
        return merged


class Resting:
    """Stands for a tensor that stays on the disk: what is made of it holds no values.

    `write` is called first, where its values have to be put into a file.
    """

    def __init__(self, shape: tuple[int, ...], write: Callable[[], None] | None = None) -> None:
        self._shape = shape
        self._write = write

    def __getitem__(self, _: Any) -> Resting:
        if self._write is not None:
            self._write()
        return self

    def to(self, device: Any = None, dtype: torch.dtype | None = None) -> torch.Tensor:  # noqa: ARG002
        """A placeholder of the dtype that the tensor is used in, whatever the device."""
        return torch.empty(self._shape, dtype=dtype, device="meta")
