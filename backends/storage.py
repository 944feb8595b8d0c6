"""Whether a folder takes what Snug writes, and what a failed write means for the person."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

from backends.errors import DiskFull, FolderReadOnly
from backends.text import Text

# More than an empty file, so that a full disk is noticed.
_PROBE_BYTES = 4096


def ensure_writable(folder: Path) -> None:
    """Make `folder` and write a file there for a moment. Raises `FolderReadOnly` or `DiskFull`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, prefix="probe-") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
    except OSError as error:
        raise storage_error(error, folder, _PROBE_BYTES) from error


def unwritable(folder: Path) -> str | None:
    """Why no file can be made in `folder`, or where it would be made; None where one can. Makes nothing."""
    existing = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    try:
        with tempfile.TemporaryFile(dir=existing, prefix="probe-") as file:
            file.write(b"snug")
    except OSError as error:
        return error.strerror or os.strerror(error.errno or 0)
    return None


def storage_error(error: OSError, folder: Path, needed: int) -> DiskFull | FolderReadOnly:
    """What to tell a person when writing `needed` bytes into `folder` raised `error`."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFull(needed_bytes=needed, path=str(folder), free_bytes=_free(folder))
    cause = error.strerror or os.strerror(error.errno or 0)
    return FolderReadOnly(
        path=str(folder), detail=Text.of("image.not_written", "The system says: {cause}.", cause=cause)
    )


def ensure_room(folder: Path, needed: int) -> None:
    """Check that `folder`'s disk has `needed` bytes free. Raises `DiskFull`."""
    free = _free(folder)
    if free < needed:
        raise DiskFull(needed_bytes=needed, path=str(folder), free_bytes=free)


def flush_to_disk(file: BinaryIO) -> None:
    """Have what was written to `file` on the disk, so that a name given to it later never names less."""
    file.flush()
    os.fsync(file.fileno())


def _free(folder: Path) -> int:
    existing = next((path for path in (folder, *folder.parents) if path.exists()), Path.cwd())
    try:
        return shutil.disk_usage(existing).free
    except OSError:
        return 0
