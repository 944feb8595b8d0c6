"""Weights that rest on the disk, read for one pass into memory that is used again.

Reading a mapped file page by page, as safetensors does, gave a third of what the same disk gives when it is
asked for whole tensors; and memory that is new for every pass has to be cleared by the system first.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import FileIO
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import torch

from backends.engines.located import fill, some
from backends.engines.tensors import Stored
from backends.hardware.others import available_ram
from backends.hardware.uncached import ALIGNED, aligned_memory, open_uncached

# Names of dtypes in a safetensors file that weights of a model have there.
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
# Tensors begin where the widest vector instructions like it.
_ALIGNED = 64
_BLOCK = 8 * 1024**2
_Fill: TypeAlias = Callable[[int, torch.Tensor], None]


@dataclass(frozen=True, slots=True)
class Extent:
    """The bytes of one tensor in a file, and what they become: `shape` of `kind`, used as `dtype`."""

    name: str
    file: str
    offset: int
    kind: torch.dtype
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def read_bytes(self) -> int:
        """Bytes in the file."""
        return prod(self.shape) * self.kind.itemsize

    @property
    def used_bytes(self) -> int:
        """Bytes as it is used."""
        return prod(self.shape) * self.dtype.itemsize


def extents(wanted: Iterable[tuple[str, Stored]]) -> tuple[Extent, ...]:
    """Where the tensors of these names lie, in the files' order, without those of dtypes unknown here.

    Raises OSError, ValueError or KeyError.
    """
    headers: dict[str, tuple[int, dict[str, Any]]] = {}
    found = []
    for name, stored in wanted:
        if (at := stored.place) is not None:
            found.append(Extent(name, stored.file, at.offset, at.dtype, at.shape, stored.dtype))
            continue
        if stored.file not in headers:
            headers[stored.file] = _header(stored.file)
        start, entries = headers[stored.file]
        entry = entries[stored.key]
        kind = _DTYPES.get(entry["dtype"])
        if kind is None:
            continue
        place = start + entry["data_offsets"][0]
        found.append(Extent(name, stored.file, place, kind, tuple(entry["shape"]), stored.dtype))
    return tuple(sorted(found, key=lambda one: (one.file, one.offset)))


def _header(file: str) -> tuple[int, dict[str, Any]]:
    with Path(file).open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        return 8 + length, json.loads(stream.read(length))


class Reader:
    """Reads parts of a model into memory that the next part is read into again. For one thread at a time.

    Where all of them find room beside everything else, the system keeps them and reads them once. Where they
    don't, each would drive the others out before it is needed again: they are read past the cache then.
    """

    def __init__(self, available: Callable[[], int] = available_ram) -> None:
        self._available = available
        self._total = 0
        self._memory: torch.Tensor | None = None
        self._raw: torch.Tensor | None = None
        self._block: memoryview | None = None
        self._refusing: set[str] = set()

    def expect(self, nbytes: int) -> None:
        """So much more is read from files in every pass, by `take` or mapped."""
        self._total += nbytes

    def take(self, wanted: Sequence[Extent], device: str) -> dict[str, torch.Tensor]:
        """These tensors on `device`; on the CPU they are valid until the next call. Raises OSError.

        Only one tensor at a time passes through RAM on its way to another device.
        """
        in_place = device == "cpu"
        sizes = [_padded(extent.used_bytes) for extent in wanted]
        memory = self._memory_of(sum(sizes) if in_place else max(sizes))
        tensors: dict[str, torch.Tensor] = {}
        place = 0
        for file, group in groupby(wanted, key=lambda extent: extent.file):
            placed = []
            for extent in group:
                placed.append((extent, memory[place : place + extent.used_bytes]))
                place += _padded(extent.used_bytes) if in_place else 0
            tensors |= self._of_file(Path(file), placed, device)
        return tensors

    def _of_file(
        self, file: Path, placed: Sequence[tuple[Extent, torch.Tensor]], device: str
    ) -> dict[str, torch.Tensor]:
        entries = [extent for extent, _ in placed]
        uncached = str(file) not in self._refusing and self._available() < self._total
        try:
            with self._opened(file, entries, uncached=uncached) as fill:
                return {extent.name: self._one(fill, extent, at).to(device) for extent, at in placed}
        except OSError as error:
            if not uncached or error.errno != errno.EINVAL:
                raise
            # Some file systems let such a file be opened, and refuse to read it.
            self._refusing.add(str(file))
            return self._of_file(file, placed, device)

    def forget(self) -> None:
        """Let go of the memory; nothing is expected any more."""
        self._memory = self._raw = self._block = None
        self._total = 0

    @contextmanager
    def _opened(self, file: Path, wanted: Sequence[Extent], *, uncached: bool) -> Iterator[_Fill]:
        """What fills a target with the bytes of an extent."""
        stream = open_uncached(file) if uncached else None
        if stream is None:
            with FileIO(file, "rb") as cached:
                _announce(cached, wanted)
                yield partial(fill, cached)
            return
        if self._block is None:
            self._block = aligned_memory(_BLOCK)
        with stream:
            yield partial(_fill_past_cache, stream, self._block)

    def _memory_of(self, nbytes: int) -> torch.Tensor:
        if self._memory is None or self._memory.numel() < nbytes:
            self._memory = None  # gone before the new one comes
            self._memory = _empty(nbytes)
        return self._memory

    def _one(self, fill: _Fill, extent: Extent, target: torch.Tensor) -> torch.Tensor:
        tensor = target.view(extent.dtype).reshape(extent.shape)
        if extent.kind == extent.dtype:
            fill(extent.offset, target)
            return tensor
        if self._raw is None or self._raw.numel() < extent.read_bytes:
            self._raw = None
            self._raw = _empty(extent.read_bytes)
        raw = self._raw[: extent.read_bytes]
        fill(extent.offset, raw)
        return tensor.copy_(raw.view(extent.kind).reshape(extent.shape))


def _empty(nbytes: int) -> torch.Tensor:
    """Memory to read into; made within an inference, it could not be written to outside of one."""
    with torch.inference_mode(mode=False):
        return torch.empty(nbytes, dtype=torch.uint8)


def _padded(nbytes: int) -> int:
    return -(-nbytes // _ALIGNED) * _ALIGNED


def _announce(stream: FileIO, wanted: Iterable[Extent]) -> None:
    """Tell the system what will be read, where it listens: a disk gives half as much again that way."""
    if sys.platform == "linux":
        for extent in wanted:
            if not extent.read_bytes:
                continue  # nothing would mean everything to the end
            os.posix_fadvise(stream.fileno(), extent.offset, extent.read_bytes, os.POSIX_FADV_WILLNEED)


def _fill_past_cache(stream: FileIO, block: memoryview, offset: int, target: torch.Tensor) -> None:
    """The same by way of `block`: such reads begin, end and arrive where the system says."""
    view = target.numpy().data
    done = 0
    while done < len(view):
        before = (offset + done) % ALIGNED
        stream.seek(offset + done - before)
        wanted = min(len(block), -(-(before + len(view) - done) // ALIGNED) * ALIGNED)
        found = some((stream.readinto(block[:wanted]) or 0) - before, stream)
        count = min(found, len(view) - done)
        view[done : done + count] = block[before : before + count]
        done += count
