"""Reads the header of a .safetensors file: names, dtypes, shapes and offsets, never a weight."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from backends.errors import ModelDamaged
from backends.models.types import Tensor

# The format's own limit for a header, which also keeps a garbage length from being read into memory.
_MAX_HEADER_BYTES = 100_000_000

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
    """One file's header. `complete` is False for a copy that ends right after its header."""

    file: str
    file_bytes: int
    tensors: tuple[Tensor, ...]
    complete: bool


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
                raise _damaged(path, f"{path.name} has {size} bytes; a safetensors file has at least 8.")
            length = int.from_bytes(prefix, "little")
            _check_length(path, length, size)
            raw = file.read(length)
    except OSError as error:
        raise _damaged(
            path, f"{path.name} can't be read ({error.strerror or type(error).__name__})."
        ) from error
    spans, tensors = _parse(path, raw)
    complete = _check_spans(path, spans, size - 8 - length)
    return Header(path.name, size, tensors, complete)


def _damaged(path: Path, detail: str) -> ModelDamaged:
    return ModelDamaged(path=str(path.parent), detail=detail, file=path.name)


def _check_length(path: Path, length: int, size: int) -> None:
    if length > _MAX_HEADER_BYTES:
        raise _damaged(
            path,
            f"{path.name} is not a safetensors file: it announces a header of {length:,} bytes, "
            f"the format allows {_MAX_HEADER_BYTES:,}.",
        )
    if length < 2 or length > size - 8:
        raise _damaged(
            path,
            f"{path.name} announces a header of {length:,} bytes but has {max(size - 8, 0):,} bytes after "
            "the length: it is truncated or not a safetensors file.",
        )


def _parse(path: Path, raw: bytes) -> tuple[list[tuple[int, int, str]], tuple[Tensor, ...]]:
    try:
        header = json.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise _damaged(path, f"The header of {path.name} is not JSON.") from error
    if not isinstance(header, dict):
        raise _damaged(path, f"The header of {path.name} is not a JSON object.")
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
        raise _damaged(path, f"The header of {path.name} describes {name} in an unknown way.")
    shape, offsets, kind = entry.get("shape"), entry.get("data_offsets"), entry.get("dtype")
    if not (_sizes(shape) and _sizes(offsets) and isinstance(kind, str) and len(offsets) == 2):
        raise _damaged(path, f"The header of {path.name} gives {name} an invalid dtype, shape or offset.")
    if kind not in _DTYPES:
        raise _damaged(path, f"{name} in {path.name} has the unknown dtype {kind[:20]}.")
    dtype, width = _DTYPES[kind]
    nbytes = width
    for extent in shape:
        nbytes *= extent
    begin, end = offsets
    if end - begin != nbytes:
        raise _damaged(
            path, f"{name} in {path.name} spans {end - begin:,} bytes but its shape needs {nbytes:,}."
        )
    return Tensor(name, dtype, tuple(shape), nbytes, path.name), begin


def _sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_spans(path: Path, spans: list[tuple[int, int, str]], data_bytes: int) -> bool:
    """Check that tensors neither overlap nor leave holes; returns whether their data is there."""
    position = 0
    for begin, end, name in sorted(spans):
        if begin != position:
            what = "overlaps the tensor before it" if begin < position else "leaves a hole before it"
            raise _damaged(path, f"{name} in {path.name} {what} ({begin:,} instead of {position:,}).")
        position = end
    if data_bytes == 0 and position > 0:
        return False
    if data_bytes < position:
        raise _damaged(
            path,
            f"{path.name} is truncated: {position - data_bytes:,} of its {position:,} bytes of weights are "
            "missing.",
        )
    if data_bytes > position:
        raise _damaged(path, f"{path.name} has {data_bytes - position:,} bytes after its last tensor.")
    return True
