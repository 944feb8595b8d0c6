"""Reads what a file of torch.save (.bin, .pth) holds: names, dtypes, shapes and offsets, never a weight.

Its list of tensors is a pickle, a small program that can do anything when it is run. It is not run: its
steps are followed as far as they describe tensors, and anything else in it is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backends.models import pickled_refusal as wrong
from backends.models.pickled_archive import Record, read_archive
from backends.models.pickled_program import WIDTHS, View, listed
from backends.models.safetensors_header import Header
from backends.models.types import Tensor
from backends.text import Text

_MOST_TENSORS = 100_000
_MOST_VALUES = 1_000_000
_LONGEST_NAME = 1_024
_DEEPEST = 16


def read_pickled_header(path: Path) -> Header:
    """Read which tensors the file of torch.save at `path` holds, and where.

    Tensors in dicts within the dict carry the names of all levels, joined by dots; numbers and texts beside
    tensors are no tensors and left out. Several tensors may lie in the same place.
    Raises ModelUnsupported for a file that is not a zip file of plain tensors (and names what else it wants),
    ModelDamaged with the figures for one that is not whole.
    """
    archive = read_archive(path)
    tensors: list[Tensor] = []
    begins: list[int] = []
    seen: set[str] = set()
    for name, view in _named(path, listed(path, archive.program)):
        if len(tensors) >= _MOST_TENSORS:
            raise wrong.too_much(path, _MOST_TENSORS, Text("pickled.tensors", "tensors"))
        if name in seen:
            raise wrong.twice(path, name)
        seen.add(name)
        begin, nbytes = _placed(path, name, view, archive.records)
        tensors.append(Tensor(name, view.dtype, view.shape, nbytes, path.name))
        begins.append(begin)
    if not tensors:
        raise wrong.no_names(path)
    return Header(path.name, archive.size, tuple(tensors), complete=True, begins=tuple(begins))


def _named(path: Path, root: object) -> Iterator[tuple[str, View]]:
    """Every tensor below `root` by its name, in the file's order."""
    if not isinstance(root, dict):
        raise wrong.no_names(path)
    values = 0
    levels: list[tuple[str, Iterator[tuple[Any, Any]]]] = [("", iter(root.items()))]
    while levels:
        above, items = levels[-1]
        key, value = next(items, (None, None))
        if key is None:
            levels.pop()
            continue
        values += 1
        if values > _MOST_VALUES:
            raise wrong.too_much(path, _MOST_VALUES, Text("pickled.values", "values"))
        part = str(key)
        if len(above) + len(part) > _LONGEST_NAME:
            raise wrong.too_much(path, _LONGEST_NAME, Text("pickled.letters", "letters in a tensor's name"))
        if isinstance(value, View):
            yield above + part, value
        elif isinstance(value, dict | list | tuple):
            if len(levels) >= _DEEPEST:
                raise wrong.too_much(path, _DEEPEST, Text("pickled.levels", "levels of names"))
            inner = iter(value.items()) if isinstance(value, dict) else iter(enumerate(value))
            levels.append((f"{above}{part}.", inner))


def _placed(path: Path, name: str, view: View, records: Mapping[str, Record]) -> tuple[int, int]:
    """The tensor's place in the file and its size, in bytes."""
    record = records.get(view.storage.key)
    if record is None:
        raise wrong.record_lost(path, f"data/{view.storage.key}")
    stored = view.storage.count * WIDTHS[view.storage.dtype]
    if stored > record.size:
        raise wrong.beyond_storage(path, name, stored, record.size)
    width = WIDTHS[view.dtype]
    nbytes = width
    for extent in view.shape:
        nbytes *= extent
    if not nbytes:
        return record.begin, 0
    if not _in_rows(view):
        raise wrong.other_layout(path, name)
    begin = view.offset * width
    if begin + nbytes > stored:
        raise wrong.beyond_storage(path, name, begin + nbytes, stored)
    return record.begin + begin, nbytes


def _in_rows(view: View) -> bool:
    """Whether the last index runs fastest and nothing is skipped."""
    expected = 1
    for extent, stride in zip(reversed(view.shape), reversed(view.strides), strict=True):
        if extent > 1 and stride != expected:
            return False
        expected *= extent
    return True
