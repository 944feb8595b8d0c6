"""Reads the header of a .safetensors file: names, dtypes, shapes and offsets, never a weight."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from backends.errors import ModelDamaged
from backends.models.types import Tensor
from backends.text import Text, Value, shown_name

# The format's own limit for a header, which also keeps a garbage length from being read into memory.
_MAX_HEADER_BYTES = 100_000_000
# No disk holds a tensor beyond this; a garbage figure must not turn into a plan.
_MAX_EXTENT = 1 << 50

# Format's dtype name -> (torch's name, bytes per element).
_DTYPES: dict[str, tuple[str, int]] = {
    "BF16": ("bfloat16", 2),
    "F16": ("float16", 2),
    "F32": ("float32", 4),
    "F64": ("float64", 8),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "I8": ("int8", 1),
    "U8": ("uint8", 1),
    "I16": ("int16", 2),
    "U16": ("uint16", 2),
    "I32": ("int32", 4),
    "U32": ("uint32", 4),
    "I64": ("int64", 8),
    "U64": ("uint64", 8),
    "BOOL": ("bool", 1),
    "C64": ("complex64", 8),
}


@dataclass(frozen=True, slots=True)
class Header:
    """One file's header. `complete` is False for a copy that ends right after its header.

    `begins` has, for each of the tensors, the byte of the file where its data begins.
    """

    file: str
    file_bytes: int
    tensors: tuple[Tensor, ...]
    complete: bool
    begins: tuple[int, ...]


def read_header(path: Path) -> Header:
    """Read and check the header of `path`.

    A file that ends exactly after its header is accepted (`complete=False`): it is enough for planning.
    Raises ModelDamaged, with the file's name and the figures, for everything else that is not as the
    format says.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            if len(prefix) < 8:
                raise _damaged(
                    path,
                    Text.of(
                        "header.short",
                        "{file} has {size:count} bytes; a safetensors file has at least 8.",
                        file=path.name,
                        size=size,
                    ),
                )
            length = int.from_bytes(prefix, "little")
            _check_length(path, length, size)
            raw = file.read(length)
    except OSError as error:
        raise _damaged(
            path,
            Text.of(
                "header.closed",
                "{file} can't be read ({cause}).",
                file=path.name,
                cause=error.strerror or type(error).__name__,
            ),
        ) from error
    spans, tensors = _parse(path, raw)
    complete = _check_spans(path, spans, size - 8 - length)
    begins = tuple(8 + length + begin for begin, _, _ in spans)
    return Header(path.name, size, tensors, complete, begins)


def _damaged(path: Path, detail: Text) -> ModelDamaged:
    return ModelDamaged(path=str(path.parent), detail=detail, file=path.name)


def _check_length(path: Path, length: int, size: int) -> None:
    if length > _MAX_HEADER_BYTES:
        raise _damaged(
            path,
            Text.of(
                "header.not_safetensors",
                "{file} is not a safetensors file: it announces a header of {length:count} bytes, and the "
                "format allows {most:count}.",
                file=path.name,
                length=length,
                most=_MAX_HEADER_BYTES,
            ),
        )
    if length < 2 or length > size - 8:
        raise _damaged(
            path,
            Text.of(
                "header.cut",
                "{file} announces a header of {length:count} bytes but has {have:count} bytes after the "
                "length: it is truncated or not a safetensors file.",
                file=path.name,
                length=length,
                have=max(size - 8, 0),
            ),
        )


def _parse(path: Path, raw: bytes) -> tuple[list[tuple[int, int, str]], tuple[Tensor, ...]]:
    try:
        header = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or a number of thousands of digits
        raise _damaged(
            path, Text.of("header.not_json", "The header of {file} is not JSON.", file=path.name)
        ) from error
    if not isinstance(header, dict):
        raise _damaged(
            path, Text.of("header.not_object", "The header of {file} is not a JSON object.", file=path.name)
        )
    spans: list[tuple[int, int, str]] = []
    tensors: list[Tensor] = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        tensor, begin = _tensor(path, name, entry)
        tensors.append(tensor)
        spans.append((begin, begin + tensor.nbytes, name))
    return spans, tuple(tensors)


def _tensor(path: Path, name: str, entry: object) -> tuple[Tensor, int]:
    """Build one tensor; returns it with the offset where its data begins."""
    if not isinstance(entry, dict):
        raise _damaged(
            path,
            Text.of(
                "header.unknown_entry",
                "The header of {file} describes {tensor} in an unknown way.",
                file=path.name,
                tensor=shown_name(name),
            ),
        )
    shape, offsets, kind = entry.get("shape"), entry.get("data_offsets"), entry.get("dtype")
    if not (_sizes(shape) and _sizes(offsets) and isinstance(kind, str) and len(offsets) == 2):
        raise _damaged(
            path,
            Text.of(
                "header.invalid_entry",
                "The header of {file} gives {tensor} an invalid dtype, shape or offset.",
                file=path.name,
                tensor=shown_name(name),
            ),
        )
    if kind not in _DTYPES:
        raise _damaged(
            path,
            Text.of(
                "header.unknown_dtype",
                "{tensor} in {file} has the unknown dtype {dtype}.",
                file=path.name,
                tensor=shown_name(name),
                dtype=shown_name(kind[:20]),
            ),
        )
    dtype, width = _DTYPES[kind]
    nbytes = width
    for extent in shape:
        nbytes *= extent
    begin, end = offsets
    if end - begin != nbytes:
        raise _damaged(
            path,
            Text.of(
                "header.wrong_size",
                "{tensor} in {file} spans {have:count} bytes but its shape needs {needed:count}.",
                file=path.name,
                tensor=shown_name(name),
                have=end - begin,
                needed=nbytes,
            ),
        )
    return Tensor(name, dtype, tuple(shape), nbytes, path.name), begin


def _sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= _MAX_EXTENT for item in value)


def _check_spans(path: Path, spans: list[tuple[int, int, str]], data_bytes: int) -> bool:
    """Check that tensors neither overlap nor leave holes; returns whether their data is there."""
    position = 0
    for begin, end, name in sorted(spans):
        if begin != position:
            figures: dict[str, Value] = {
                "file": path.name,
                "tensor": shown_name(name),
                "begin": begin,
                "end": position,
            }
            if begin < position:
                raise _damaged(
                    path,
                    Text.of(
                        "header.overlap",
                        "{tensor} in {file} overlaps the tensor before it: it begins at byte {begin:count}, "
                        "and that one ends at {end:count}.",
                        **figures,
                    ),
                )
            raise _damaged(
                path,
                Text.of(
                    "header.hole",
                    "{tensor} in {file} leaves a hole before it: it begins at byte {begin:count}, and the "
                    "tensor before it ends at {end:count}.",
                    **figures,
                ),
            )
        position = end
    if data_bytes == 0 and position > 0:
        return False
    if data_bytes < position:
        raise _damaged(
            path,
            Text.of(
                "header.truncated",
                "{file} is truncated: {missing:count} of its {whole:count} bytes of weights are missing.",
                file=path.name,
                missing=position - data_bytes,
                whole=position,
            ),
        )
    if data_bytes > position:
        raise _damaged(
            path,
            Text.of(
                "header.extra",
                "{file} has {extra:count} bytes after its last tensor.",
                file=path.name,
                extra=data_bytes - position,
            ),
        )
    return True
