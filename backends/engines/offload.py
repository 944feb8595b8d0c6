"""The folder for weights that rest on the disk: made, checked for space, removed, also after a crash."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from pathlib import Path

import psutil

from backends.errors import DiskFull, FolderReadOnly
from backends.text import Text

_PREFIX = "snug-weights-"
# What is left free for everybody else on the disk.
_MARGIN_BYTES = 64 << 20


class OffloadFolder:
    """A folder of our own below the one that the plan names; nothing else in there is ever touched."""

    def __init__(self, root: Path) -> None:
        """Make it. Raises FolderReadOnly or DiskFull. What crashed processes left beside it is removed."""
        self._made: list[Path] = []
        self.root = root
        own = psutil.Process()
        self.path = root / f"{_PREFIX}{own.pid}-{int(own.create_time())}-{uuid.uuid4().hex[:8]}"
        sweep(root)
        try:
            self._make(self.path)
        except OSError as error:
            self.remove()
            raise FolderReadOnly(
                path=str(root), detail=Text("engine.no_writing", "Writing there is not allowed.")
            ) from error

    def check(self, needed_bytes: int) -> None:
        """Raise DiskFull unless `needed_bytes` may be written there."""
        free = shutil.disk_usage(self.path).free
        if needed_bytes and needed_bytes + _MARGIN_BYTES > free:
            raise DiskFull(path=str(self.root), needed_bytes=needed_bytes, free_bytes=free)

    def file(self, name: str) -> Path:
        """A new file for the weights of the module `name`."""
        return self.path / f"{name or 'model'}-{uuid.uuid4().hex[:8]}.safetensors"

    def holds(self, file: Path) -> bool:
        """Whether `file` is one of ours."""
        return file.is_relative_to(self.path)

    def remove(self) -> None:
        """Remove our folder, and those above it that were made for it, if nothing else is in them."""
        shutil.rmtree(self.path, ignore_errors=True)
        for made in reversed(self._made):
            with contextlib.suppress(OSError):
                made.rmdir()

    def _make(self, path: Path) -> None:
        missing = [path, *path.parents]
        missing = missing[: next(i for i, folder in enumerate(missing) if folder.exists())]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            self._made.append(folder)


def sweep(root: Path) -> None:
    """Remove folders below `root` whose process ended without doing it."""
    for folder in root.glob(f"{_PREFIX}*"):
        pid, _, rest = folder.name.removeprefix(_PREFIX).partition("-")
        begun = rest.partition("-")[0]
        if folder.is_dir() and pid.isdigit() and begun.isdigit() and not _lives(int(pid), int(begun)):
            shutil.rmtree(folder, ignore_errors=True)


def _lives(pid: int, begun: int) -> bool:
    """Whether the process `pid` that began at `begun` still runs; numbers are used again."""
    try:
        return abs(psutil.Process(pid).create_time() - begun) < 2
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
