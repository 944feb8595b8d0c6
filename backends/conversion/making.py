"""Makes one file of the cache: by one process at a time, and under its name only when it is complete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event as Flag

from backends.conversion.cache import lock_of, part_of, touch
from backends.conversion.lock import held
from backends.models.gguf_header import read_gguf_header
from backends.storage import ensure_room

# What a full disk still needs to keep a machine usable.
MARGIN_BYTES = 64 << 20


def make(
    target: Path,
    write: Callable[[Path], None],
    *,
    room: int,
    waiting: Callable[[Path], None],
    cancel: Flag,
) -> None:
    """Let `write` make the GGUF file `target` under another name, unless another process just did.

    `room` bytes have to be free on the disk. `waiting` is called from time to time with that name while
    another process makes it. Raises DiskFull, FolderReadOnly, Cancelled and what `write` raises; what is
    unfinished is removed then.
    """
    part = part_of(target)
    with held(lock_of(target), waiting=lambda: waiting(part), cancel=cancel):
        if target.is_file():
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
