"""Log files of child processes: where they go, how many are kept, and their last words."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from pathlib import Path

KEEP = 20
_TAIL_BYTES = 16 * 1024


def new_log(folder: Path, *, keep: int = KEEP, prefix: str = "worker") -> Path:
    """Choose a new log file and remove the oldest beyond `keep`; the system's temp folder if need be."""
    name = f"{prefix}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{time.monotonic_ns() % 10**9:09d}.log"
    for candidate in (folder, Path(tempfile.gettempdir()) / "snug-logs"):
        try:
            candidate.mkdir(parents=True, exist_ok=True)
            path = candidate / name
            path.touch()
        except OSError:
            continue
        _remove_oldest(candidate, keep, prefix)
        return path
    return Path(os.devnull)


def _remove_oldest(folder: Path, keep: int, prefix: str) -> None:
    logs = sorted(folder.glob(f"{prefix}-*.log"), key=lambda path: path.name)
    for old in logs[: max(len(logs) - keep, 0)]:
        with contextlib.suppress(OSError):  # Windows keeps files that a living child still has open
            old.unlink()


def tail(path: Path, *, limit: int = _TAIL_BYTES) -> str:
    """The end of a log, "" when it can't be read."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - limit, 0))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


# The last line of a Python traceback: "ValueError: no such thing", "torch.OutOfMemoryError: ...".
_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*([A-Z]\w*(?:Error|Exception|Exit|Interrupt))(?:: |$)")


def last_exception(text: str) -> str | None:
    """The kind of the last exception a log names, or None. Its words stay in the log."""
    for line in reversed(text.splitlines()):
        if found := _EXCEPTION.match(line.strip()):
            return found.group(1)
    return None
