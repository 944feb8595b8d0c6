"""The tensors of weight files as parts that a recipe can name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from backends.models.originals.types import Delta, Part, Source
from backends.models.types import Tensor
from backends.models.weight_files import read_any_headers, weight_tensors


@dataclass(frozen=True, slots=True)
class Found:
    """A tensor in a file, and what a LoRA adds to it."""

    part: Part
    tensor: Tensor
    deltas: tuple[Delta, ...] = ()

    @property
    def source(self) -> Source:
        """What the recipe says about it."""
        return Source(self.part, self.deltas)


def in_folder(folder: Path) -> dict[str, Found]:
    """Every tensor of the model in `folder` by its key; errors as `read_any_headers`."""
    return {
        tensor.name: Found(Part(folder / header.file, tensor.name), tensor)
        for header in read_any_headers(folder)
        for tensor in header.tensors
    }


def in_file(path: Path) -> dict[str, Found]:
    """Every tensor of one weight file by its key; errors as `weight_tensors`."""
    return {key: Found(Part(path, key), located.tensor) for key, located in weight_tensors(path).items()}


def files_of(found: Mapping[str, Found]) -> tuple[Path, ...]:
    """The files that are read for these tensors, each once, in their first use's order."""
    return tuple(dict.fromkeys(_parts(found.values())))


def _parts(found: Iterable[Found]) -> Iterable[Path]:
    for one in found:
        yield one.part.file
        for delta in one.deltas:
            yield delta.down.file
            yield delta.up.file
