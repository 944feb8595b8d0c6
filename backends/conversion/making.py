"""Makes one file of the cache: by one process at a time, and under its name only when it is complete."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from threading import Event as Flag

from backends.conversion.cache import lock_of, part_of, touch
from backends.conversion.lock import held
from backends.errors import SnugError
from backends.models.gguf_header import read_gguf_header
from backends.storage import ensure_room

# What a full disk still needs to keep a machine usable.
MARGIN_BYTES = 64 << 20


def is_whole(path: Path) -> bool:
    """Whether a GGUF file is there, with all the bytes that its header tells of. No weight is read."""
    try:
        about = path.stat()
    except OSError:
        return False
    return _is_whole(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=64)
def _is_whole(path: Path, size: int, changed: int) -> bool:  # noqa: ARG001 - what the answer holds for
    try:
        return read_gguf_header(path).complete
    except SnugError:
        return False


def make(
    target: Path,
    write: Callable[[Path], None],
    *,
    room: int,
    waiting: Callable[[Path], None],
    cancel: Flag,
) -> None:
    """Let `write` make the GGUF file `target` under another name, unless a whole one is there by now.

    `room` bytes have to be free on the disk. `waiting` is called from time to time with that name while
    another process makes it. Raises DiskFull, FolderReadOnly, Cancelled and what `write` raises; what is
    unfinished is removed then.
    """
    part = part_of(target)
    with held(lock_of(target), waiting=lambda: waiting(part), cancel=cancel):
        if is_whole(target):
            touch(target)
            return
        part.unlink(missing_ok=True)  # of a process that was ended
        ensure_room(part.parent, room)
        try:
            write(part)
            read_gguf_header(part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
