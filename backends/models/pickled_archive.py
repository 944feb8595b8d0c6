"""The zip file that torch.save writes: where each of its records lies. Nothing is unpacked or run."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from backends.models import pickled_refusal as wrong
from backends.text import Text

_LOCAL_HEADER = b"PK\x03\x04"
_LOCAL_BYTES = 30
_ENCRYPTED = 1
# The directory takes about 150 bytes for each tensor.
_MOST_DIRECTORY = 1 << 24
_MOST_PROGRAM = 1 << 25
_PROGRAM = "data.pkl"
_SCRIPT = "constants.pkl"


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the file: its data are `size` bytes from `begin`."""

    begin: int
    size: int


@dataclass(frozen=True, slots=True)
class Archive:
    """What a file of torch.save holds: the pickle that lists its tensors, records by their keys."""

    size: int
    program: bytes
    records: Mapping[str, Record]


class _Directory:
    """A file that refuses to read more at once than the directory of any model takes."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path

    def read(self, size: int = -1) -> bytes:
        found = self._file.read(min(size, _MOST_DIRECTORY + 1) if size >= 0 else _MOST_DIRECTORY + 1)
        if len(found) > _MOST_DIRECTORY:
            what = Text("pickled.directory_bytes", "bytes of directory")
            raise wrong.too_much(self._path, _MOST_DIRECTORY, what)
        return found

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


def read_archive(path: Path) -> Archive:
    """Find the records of `path`.

    Raises ModelDamaged for a file without its end or with records outside of it, ModelUnsupported for what
    torch.save does not write today: bare pickles, programs, compressed records.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            _check_beginning(path, file, size)
            entries = _entries(path, file, size)
            root = _root(path, entries)
            records = {
                name.removeprefix(root): _record(path, file, entry, size)
                for name, entry in entries.items()
                if name.startswith(root)
            }
            order = _read(file, records.get("byteorder"))
            listed = records[_PROGRAM]
            if listed.size > _MOST_PROGRAM:
                raise wrong.too_much(
                    path, _MOST_PROGRAM, Text("pickled.list_bytes", "bytes in its list of tensors")
                )
            program = _read(file, listed)
    except OSError as error:
        raise wrong.unreadable(path, error) from error
    if order not in (b"", b"little"):
        raise wrong.big_endian(path)
    inside = "data/"
    kept = {name.removeprefix(inside): record for name, record in records.items() if name.startswith(inside)}
    return Archive(size, program, kept)


def _read(file: BinaryIO, record: Record | None) -> bytes:
    if record is None:
        return b""
    file.seek(record.begin)
    return file.read(min(record.size, _MOST_PROGRAM))


def _check_beginning(path: Path, file: BinaryIO, size: int) -> None:
    begin = file.read(4)
    if begin == _LOCAL_HEADER:
        return
    # Every pickle since protocol 2 begins with this mark and its protocol.
    if len(begin) > 1 and begin[0] == 0x80 and 2 <= begin[1] <= 5:
        raise wrong.legacy(path)
    raise wrong.not_weights(path, size)


def _entries(path: Path, file: BinaryIO, size: int) -> dict[str, zipfile.ZipInfo]:
    # What the standard library lets through from a garbled directory, besides its own error.
    broken = (
        zipfile.BadZipFile,
        NotImplementedError,
        ValueError,
        struct.error,
        EOFError,
        OverflowError,
        IndexError,
    )
    try:
        # It is read here only: the directory of records that are stored as they are.
        with zipfile.ZipFile(_Directory(file, path)) as archive:
            found = archive.infolist()
    except broken as error:
        raise wrong.cut(path, size) from error
    entries = {entry.filename: entry for entry in found}
    if len(entries) < len(found):
        raise wrong.cut(path, size)
    return entries


def _root(path: Path, entries: Mapping[str, zipfile.ZipInfo]) -> str:
    """The folder inside of the archive that holds everything, with its slash."""
    lists = [name for name in entries if name.endswith(f"/{_PROGRAM}") and name.count("/") == 1]
    if len(lists) != 1:
        raise wrong.other_zip(path)
    root = lists[0].removesuffix(_PROGRAM)
    if root + _SCRIPT in entries:
        raise wrong.program_inside(path)
    return root


def _record(path: Path, file: BinaryIO, entry: zipfile.ZipInfo, size: int) -> Record:
    """Where the entry's data lies, by its own header there: the directory does not tell its padding."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED:
        raise wrong.compressed(path, entry.filename)
    if entry.file_size != entry.compress_size:
        raise wrong.cut(path, size)
    after = entry.header_offset + _LOCAL_BYTES
    if entry.header_offset < 0 or after > size:
        _lies_outside(path, entry, after, size)
    file.seek(entry.header_offset)
    header = file.read(_LOCAL_BYTES)
    if not header.startswith(_LOCAL_HEADER):
        raise wrong.cut(path, size)
    name, extra = struct.unpack_from("<HH", header, 26)
    begin = after + name + extra
    if begin + entry.file_size > size:
        _lies_outside(path, entry, begin + entry.file_size, size)
    return Record(begin, entry.file_size)


def _lies_outside(path: Path, entry: zipfile.ZipInfo, end: int, size: int) -> NoReturn:
    raise wrong.outside(path, entry.filename, end, size)
