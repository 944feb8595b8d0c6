"""Where converted files lie: named by what they were made from, removed when they are too many."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from uuid import uuid4

from backends.conversion.fingerprint import fingerprint
from backends.conversion.lock import held, is_held
from backends.conversion.types import Request
from backends.errors import DiskFull, FolderReadOnly, ModelDamaged
from backends.models.checkpoint import read_json
from backends.text import Text

_LOCKS = "locks"
_PART = ".part"
_IN_USE = ".used"
# How the names of records of comparisons end (conversion.layouts), and where comparing takes place.
RECORD = "-layout.json"
_COMPARING = "comparing"
_NAMED = re.compile(r"(?P<source>.+-[0-9a-f]{20})-.+")
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """A converted file: its size and when it was used last (seconds since 1970)."""

    path: Path
    nbytes: int
    used: float


@dataclass(frozen=True, slots=True)
class Targets:
    """Where the files of a request lie, made or not."""

    text: Path
    mmproj: Path | None


def targets(request: Request) -> Targets:
    """Name the files of `request` by what is in its checkpoint (`stem`)."""
    return named(stem(request.folder), request)


def stem(folder: Path) -> str:
    """How the names of all files begin that are made from the checkpoint in `folder`, as it is now.

    Where it lies, what its folder is called and when it was written make no difference. The weights are read
    in a few places only (`fingerprint`). Raises what reading headers raises.
    """
    try:
        digest = fingerprint(folder)
        family = read_json(folder / "config.json").get("model_type")
    except OSError as error:
        detail = Text.of("convert.unreadable", "{file} can't be read to its end.", file=folder.name)
        raise ModelDamaged(path=str(folder), detail=detail, file=folder.name) from error
    return f"{_UNFIT.sub('-', str(family))[:40] if family else 'model'}-{digest[:20]}"


def named(beginning: str, request: Request) -> Targets:
    """The same as `targets`, for those who know the checkpoint's `stem`."""
    text = request.cache / f"{beginning}-{request.kind.value}.gguf"
    if request.layout is None:
        return Targets(text, None)
    ending = f"{request.layout.value}-{request.vision_kind.value}"
    return Targets(text, request.cache / f"{beginning}-mmproj-{ending}.gguf")


def part_of(target: Path) -> Path:
    """The name of `target` until it is complete."""
    return target.with_name(target.name + _PART)


def lock_of(target: Path) -> Path:
    """The file whose lock is held while `target` is made."""
    return target.parent / _LOCKS / (target.name + ".lock")


def comparing_folder(cache: Path) -> Path:
    """Where files lie while layouts are compared; whoever uses it holds its lock (`lock_of`)."""
    return cache / _COMPARING


@contextmanager
def in_use(cache: Path, beginning: str) -> Iterator[None]:
    """Have the files whose names begin so (`stem`) stay inside the block, whatever process clears or trims.

    Several may use them at once. A folder that can't be written is left as it is: nobody can clear it either.
    """
    mark = cache / _LOCKS / f"{beginning}.{uuid4().hex}{_IN_USE}"
    with ExitStack() as stack:
        with suppress(DiskFull, FolderReadOnly):
            stack.enter_context(held(mark, waiting=lambda: None, cancel=Event()))
        try:
            yield
        finally:
            stack.close()  # Windows removes no open file
            with suppress(OSError):
                mark.unlink()


def _used(cache: Path) -> frozenset[str]:
    """How the names of files begin that somebody uses."""
    marks = (cache / _LOCKS).glob(f"*{_IN_USE}")
    return frozenset(mark.name.removesuffix(_IN_USE).rpartition(".")[0] for mark in marks if is_held(mark))


def touch(target: Path) -> None:
    """Note that `target` is used now; a folder that can't be written loses nothing by it."""
    try:
        os.utime(target)
    except OSError:
        return


def entries(cache: Path) -> tuple[Entry, ...]:
    """The converted files, those used last first."""
    found = [Entry(path, about.st_size, about.st_mtime) for path, about in _files(cache, "*.gguf")]
    return tuple(sorted(found, key=lambda entry: (-entry.used, entry.path.name)))


def source_of(entry: Entry) -> str:
    """What the files of one checkpoint have in common: its name, and what stands for its content."""
    found = _NAMED.fullmatch(entry.path.name)
    return found["source"] if found else entry.path.stem


def _files(cache: Path, pattern: str) -> Iterator[tuple[Path, os.stat_result]]:
    for path in cache.glob(pattern):
        try:
            yield path, path.stat()
        except OSError:  # somebody else removed it
            continue


def clear(cache: Path) -> int:
    """Remove everything that is not being made or loaded; returns the bytes that came free.

    A file that a process has open stays where the system does not allow it (Windows).
    """
    used = _used(cache)
    return trim(cache, 0) + sum(
        _removed(path, about.st_size)
        for path, about in _files(cache, "*" + RECORD)
        if path.name.removesuffix(RECORD) not in used
    )


def trim(cache: Path, limit_bytes: int, keep: Collection[Path] = ()) -> int:
    """Remove what conversions left that did not end, then those files used longest ago beyond `limit_bytes`.

    Files in `keep` stay, and those of checkpoints that are being converted or loaded. Returns the bytes that
    came free.
    """
    freed, kept, used = remove_leftovers(cache), 0, _used(cache)
    for entry in entries(cache):
        kept += entry.nbytes
        if kept > limit_bytes and entry.path not in keep and source_of(entry) not in used:
            came_free = _removed(entry.path, entry.nbytes)
            freed, kept = freed + came_free, kept - came_free
    return freed


def remove_leftovers(cache: Path) -> int:
    """Remove what processes left that were ended while they converted; returns the bytes that came free."""
    freed = sum(
        _removed(path, about.st_size)
        for path, about in _files(cache, f"*{_PART}")
        if not is_held(lock_of(path.with_name(path.name.removesuffix(_PART))))
    )
    comparing = comparing_folder(cache)
    if comparing.is_dir() and not is_held(lock_of(comparing)):
        freed += sum(about.st_size for path, about in _files(comparing, "**/*") if path.is_file())
        shutil.rmtree(comparing, ignore_errors=True)
    return freed


def _removed(path: Path, nbytes: int) -> int:
    try:
        path.unlink()
    except OSError:
        return 0
    return nbytes
