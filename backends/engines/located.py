"""Values at a place in a file, in any format that keeps them as they are in memory: copies and windows."""

from __future__ import annotations

import errno
import mmap
import sys
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path

import torch


@dataclass(frozen=True, slots=True)
class Place:
    """Where the values of a tensor begin in `file`, in bytes, and what they are there."""

    file: Path
    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return prod(self.shape) * self.dtype.itemsize


def read(place: Place) -> torch.Tensor:
    """A copy in memory of its own. Raises OSError."""
    values = torch.empty(place.shape, dtype=place.dtype)
    if place.nbytes:
        with FileIO(str(place.file), "rb") as stream:
            fill(stream, place.offset, values.reshape(-1).view(torch.uint8))
    return values


def window(place: Place) -> torch.Tensor:
    """The file's own pages, where the values begin as their dtype wants it; else a copy. Raises OSError.

    Windows promises memory for all of a mapped file: it gets copies.
    """
    if sys.platform == "win32" or place.offset % place.dtype.itemsize or not place.nbytes:
        return read(place)
    end = place.offset + place.nbytes
    before = place.offset % mmap.ALLOCATIONGRANULARITY
    with place.file.open("rb") as stream:
        if stream.seek(0, 2) < end:
            raise cut_short(place.file)
        pages = mmap.mmap(
            stream.fileno(), before + place.nbytes, access=mmap.ACCESS_COPY, offset=place.offset - before
        )
    values = torch.frombuffer(pages, dtype=place.dtype, count=prod(place.shape), offset=before)
    return values.reshape(place.shape)


def fill(stream: FileIO, offset: int, target: torch.Tensor) -> None:
    """Read exactly as many bytes as `target`, a row of uint8, has. Raises OSError."""
    view = target.numpy().data
    done = 0
    stream.seek(offset)
    while done < len(view):
        done += some(stream.readinto(view[done:]), stream)


def some(count: int | None, stream: FileIO) -> int:
    """`count` bytes that were read. Raises OSError for none, where more should come."""
    if not count or count < 0:
        raise cut_short(Path(str(stream.name)))
    return count


def cut_short(file: Path) -> OSError:
    """What reading raises where a file ends too early."""
    return OSError(errno.EIO, "the file is shorter than it was", str(file))
