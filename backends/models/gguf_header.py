"""Reads the header of a .gguf file: metadata and tensors' shapes, never a weight and no vocabulary.

The format is GGUF version 2 and 3 as llama.cpp writes it: magic, version, two counts, key-value pairs, tensor
infos, then the aligned weights. The package `gguf` reads it too, for converters: it makes several objects of
every word of the vocabulary and maps the weights, so that a copy of the header alone can't be read with it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from backends.models import gguf_damage as wrong
from backends.models.ggml_types import TYPES
from backends.models.types import Tensor

Item: TypeAlias = "int | float | bool | str"
Value: TypeAlias = "Item | tuple[Item, ...]"

_MAGIC = b"GGUF"
# What llama.cpp's files began with before August 2023.
_OLDER_MAGICS = (b"lmgg", b"fmgg", b"tjgg", b"algg")
_VERSIONS = (2, 3)
_LEAST_BYTES = 24
# The largest vocabularies and templates of today need 20 MB; a garbage count must not fill the memory.
_MAX_HEADER_BYTES = 1 << 28
_FIRST_BYTES, _GROWTH = 1 << 20, 4
_LONGEST_TEXT, _LONGEST_NAME, _LONGEST_ARRAY = 1 << 20, 1 << 16, 1 << 12
_MOST_DIMENSIONS, _MAX_EXTENT = 4, 1 << 50
_ALIGNMENT = 32

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_TYPE_AND_OFFSET = struct.Struct("<IQ")
_SHAPES = [struct.Struct(f"<{count}Q") for count in range(_MOST_DIMENSIONS + 1)]
# The format's number of a value type -> how it is packed; strings and arrays are read apart.
_SCALARS = {
    number: struct.Struct(f"<{code}")
    for number, code in enumerate("BbHhIif?")
} | {number: struct.Struct(f"<{code}") for number, code in zip((10, 11, 12), "Qqd", strict=True)}  # fmt: skip
_TEXT, _ARRAY = 8, 9
# Fewest bytes of a pair (empty key, type, one byte) and of a tensor (empty name, no extent, type, offset).
_LEAST_PAIR, _LEAST_TENSOR = 13, 24


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """One file's header.

    `values` are numbers, texts up to 1 MiB and arrays of up to 4,096 numbers; `lengths` is the number of
    elements of every array and of bytes of every longer text. `complete` is False for a copy that ends
    right after its header.
    """

    file: str
    file_bytes: int
    version: int
    values: Mapping[str, Value]
    lengths: Mapping[str, int]
    tensors: tuple[Tensor, ...]
    complete: bool

    def number(self, key: str) -> int | None:
        """The positive whole number of `key`; of an array the largest."""
        found = self.values.get(key)
        items = found if isinstance(found, tuple) else (found,)
        numbers = [item for item in items if type(item) is int and 0 < item < 1 << 31]
        return max(numbers, default=None)

    def text(self, key: str) -> str | None:
        """The text of `key`."""
        found = self.values.get(key)
        return found if isinstance(found, str) else None


def is_gguf(path: Path) -> bool:
    """Tell whether `path` is a file that says it is GGUF, by its ending or its first bytes."""
    if not path.is_file():
        return False
    if path.suffix.lower() == ".gguf":
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def read_gguf_header(path: Path) -> GgufHeader:
    """Read and check the header of `path`.

    A file that ends right after its header is accepted (`complete=False`): it is enough for planning.
    Raises ModelUnsupported for other versions, byte orders and tensor types, and ModelDamaged, with the
    file's name and the figures, for everything else that is not as the format says.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return _Parser(path, file, size).header()
    except OSError as error:
        raise wrong.closed(path, error) from error


def read_gguf_arrays(path: Path, keys: Collection[str]) -> Mapping[str, Sequence[Any]]:
    """The arrays that `keys` name, in full: texts as bytes, numbers as they are.

    Raises what `read_gguf_header` does, which leaves out the long ones: a vocabulary takes a while.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            parser = _Parser(path, file, size, frozenset(keys))
            parser.header()
            return parser.arrays
    except OSError as error:
        raise wrong.closed(path, error) from error


class _Parser:
    """Walks through the beginning of a file, which is read in growing steps as far as the header goes."""

    def __init__(self, path: Path, file: BinaryIO, size: int, wanted: frozenset[str] = frozenset()) -> None:
        self._path, self._file, self._size, self._wanted = path, file, size, wanted
        self.arrays: dict[str, Sequence[Any]] = {}
        self._data = bytearray()
        self._at = 0
        self._values: dict[str, Value] = {}
        self._lengths: dict[str, int] = {}

    def header(self) -> GgufHeader:
        version = self._version()
        count, pairs = self._count(_LEAST_TENSOR), self._count(_LEAST_PAIR)
        for _ in range(pairs):
            self._pair()
        alignment = self._alignment()
        tensors, data_bytes = self._tensors(count, alignment)
        return GgufHeader(
            file=self._path.name,
            file_bytes=self._size,
            version=version,
            values=self._values,
            lengths=self._lengths,
            tensors=tensors,
            complete=self._is_complete(alignment, data_bytes),
        )

    def _version(self) -> int:
        if self._size < _LEAST_BYTES:
            raise wrong.short(self._path, self._size, _LEAST_BYTES)
        self._reach(_LEAST_BYTES)
        magic, version = bytes(self._data[:4]), _U32.unpack_from(self._data, 4)[0]
        if magic in _OLDER_MAGICS:
            raise wrong.older(self._path)
        if magic != _MAGIC:
            raise wrong.not_gguf(self._path)
        if version & 0xFFFF == 0:
            raise wrong.big_endian(self._path)
        if version not in _VERSIONS:
            raise wrong.version(self._path, version)
        self._at = 8
        return int(version)

    def _reach(self, end: int) -> None:
        """Have the file's bytes up to `end`. Raises ModelDamaged where it has fewer."""
        if end > self._size:
            raise wrong.cut(self._path, self._size)
        if end > _MAX_HEADER_BYTES:
            raise wrong.endless(self._path, _MAX_HEADER_BYTES)
        while len(self._data) < end:
            wanted = max(end, _FIRST_BYTES, min(_GROWTH * len(self._data), _MAX_HEADER_BYTES))
            more = self._file.read(wanted - len(self._data))
            if not more:  # it became shorter since it was measured
                self._size = len(self._data)
                self._reach(end)
            self._data += more

    def _unpack(self, code: struct.Struct) -> tuple[int | float, ...]:
        end = self._at + code.size
        if end > len(self._data):
            self._reach(end)
        found = code.unpack_from(self._data, self._at)
        self._at = end
        return found

    def _count(self, least_bytes: int) -> int:
        """Read how many things follow; each takes at least `least_bytes`, which the file must have."""
        count = int(self._unpack(_U64)[0])
        room = self._size - self._at
        if count * least_bytes > room:
            raise wrong.count(self._path, count, room)
        return count

    def _text(self, longest: int) -> str | int:
        """Read a text; of one that is longer than `longest`, its length in bytes."""
        length = self._count(1)
        end = self._at + length
        if end > len(self._data):
            self._reach(end)
        start, self._at = self._at, end
        if length > longest:
            return length
        return self._data[start:end].decode("utf-8", errors="replace")

    def _name(self) -> str:
        name = self._text(_LONGEST_NAME)
        if isinstance(name, int):
            raise wrong.long_name(self._path, name)
        return name

    def _pair(self) -> None:
        key = self._name()
        if key in self._values or key in self._lengths:
            raise wrong.twice(self._path, key)
        kind = int(self._unpack(_U32)[0])
        if kind == _TEXT:
            text = self._text(_LONGEST_TEXT)
            if isinstance(text, str):
                self._values[key] = text
            else:
                self._lengths[key] = text
        elif kind == _ARRAY:
            self._array(key)
        elif kind in _SCALARS:
            self._values[key] = self._unpack(_SCALARS[kind])[0]
        else:
            raise wrong.value_type(self._path, key, kind)

    def _array(self, key: str) -> None:
        kind = int(self._unpack(_U32)[0])
        if kind == _TEXT:
            self._lengths[key] = count = self._count(_U64.size)
            start = self._at
            self._skip_texts(count)
            if key in self._wanted:
                self.arrays[key] = self._texts(start, count)
            return
        code = _SCALARS.get(kind)
        if code is None:  # arrays of arrays, which llama.cpp does not read either, or garbage
            raise wrong.value_type(self._path, key, kind)
        self._lengths[key] = count = self._count(code.size)
        end = self._at + count * code.size
        self._reach(end)
        if count <= _LONGEST_ARRAY or key in self._wanted:
            found = struct.unpack_from(f"<{count}{code.format[1:]}", self._data, self._at)
            if count <= _LONGEST_ARRAY:
                self._values[key] = found
            if key in self._wanted:
                self.arrays[key] = found
        self._at = end

    def _texts(self, at: int, count: int) -> tuple[bytes, ...]:
        """`count` texts from `at` on, which `_skip_texts` has stepped over."""
        unpack, data, found = _U64.unpack_from, self._data, []
        for _ in range(count):
            end = at + 8 + unpack(data, at)[0]
            found.append(bytes(data[at + 8 : end]))
            at = end
        return tuple(found)

    def _skip_texts(self, count: int) -> None:
        """Step over `count` texts: the vocabulary and its merges, some 300,000 of them."""
        unpack, data, at = _U64.unpack_from, self._data, self._at
        steps = iter(range(count))
        while True:
            try:
                for _ in steps:
                    at += unpack(data, at)[0] + 8
                break
            except (struct.error, OverflowError, IndexError):
                self._reach(at + 8)
                at += unpack(data, at)[0] + 8
        self._reach(at)
        self._at = at

    def _alignment(self) -> int:
        stated = self._values.get("general.alignment", _ALIGNMENT)
        if type(stated) is int and stated > 0 and stated & (stated - 1) == 0:
            return stated
        raise wrong.alignment(self._path)

    def _tensors(self, count: int, alignment: int) -> tuple[tuple[Tensor, ...], int]:
        """Read the tensor infos; returns them with the bytes that their data takes."""
        found: dict[str, Tensor] = {}
        position = end = 0
        for _ in range(count):
            tensor, offset = self._tensor()
            if tensor.name in found:
                raise wrong.twice(self._path, tensor.name)
            if offset != position:
                raise wrong.offset(self._path, tensor.name, offset, position)
            found[tensor.name] = tensor
            end = offset + tensor.nbytes
            position = -(-end // alignment) * alignment
        return tuple(found.values()), end

    def _tensor(self) -> tuple[Tensor, int]:
        """Read one tensor's info; returns it with the offset of its data."""
        name = self._name()
        dimensions = int(self._unpack(_U32)[0])
        if dimensions > _MOST_DIMENSIONS:
            raise wrong.shape(self._path, name)
        extents = tuple(int(extent) for extent in self._unpack(_SHAPES[dimensions]))
        number, offset = self._unpack(_TYPE_AND_OFFSET)
        kind = TYPES.get(int(number))
        if kind is None:
            raise wrong.tensor_type(self._path, name, int(number))
        # The first extent is a row's length here, and rows are stored in whole blocks.
        row = extents[0] if extents else 1
        if row % kind.block or math.prod(extents) > _MAX_EXTENT:
            raise wrong.shape(self._path, name)
        nbytes = math.prod(extents) // kind.block * kind.nbytes
        return Tensor(name, kind.name, extents[::-1], nbytes, self._path.name), int(offset)

    def _is_complete(self, alignment: int, data_bytes: int) -> bool:
        """Whether the weights follow the header; they may be left out as a whole only."""
        start = -(-self._at // alignment) * alignment
        if data_bytes == 0:
            return True
        if self._size <= start:
            return False
        if self._size < start + data_bytes:
            raise wrong.truncated(self._path, start + data_bytes - self._size, data_bytes)
        return True
