"""A lock that processes share, on a file: the system frees it when its holder ends, however it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Flag
from typing import BinaryIO

from backends.errors import Cancelled
from backends.storage import storage_error

# How often a holder's progress is looked at, and whether it has ended.
_TICK_S = 0.2


@contextmanager
def held(path: Path, *, waiting: Callable[[], None], cancel: Flag) -> Iterator[None]:
    """Hold the lock on `path` inside the block. The file stays: removing it would let two in.

    While another process or thread holds it, `waiting` is called from time to time. Raises Cancelled while
    waiting, FolderReadOnly or DiskFull where the file can't be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise storage_error(error, path.parent, 0) from error
    with file:
        while not _taken(file):
            waiting()
            if cancel.wait(_TICK_S):
                raise Cancelled
        try:
            yield
        finally:
            _free(file)


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock on `path` now."""
    try:
        with path.open("r+b") as file:
            if not _taken(file):
                return True
            _free(file)
    except FileNotFoundError:
        return False
    return False


if sys.platform == "win32":
    import msvcrt

    def _taken(file: BinaryIO) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _free(file: BinaryIO) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _taken(file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _free(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
