"""Watch how much RAM a process holds, and put it under a hard limit (Linux only).

What counts as held: anonymous pages, and the pages of files that it has mapped and touched. Weights that
are used straight from their file are such pages, and so are torch's libraries: a machine without room for
them reads them again at every token. What is *not* held: the page cache of files that are only read.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_STEP_S = 0.005
_RESET_PEAK = "5"  # proc(5), clear_refs


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes of a process now; `peak` is the most that anonymous and file pages together came to."""

    anonymous: int
    files: int
    peak: int


def held(pid: int) -> Held | None:
    """What process `pid` holds; None when it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = {
        key: int(rest.split()[0]) * 1024
        for key, _, rest in (line.partition(":") for line in text.splitlines())
        if key in ("RssAnon", "RssShmem", "RssFile", "VmHWM")
    }
    if len(found) < 4:
        return None  # a zombie has no memory
    return Held(found["RssAnon"] + found["RssShmem"], found["RssFile"], found["VmHWM"])


def reset_peak(pid: int) -> None:
    """Let the kernel begin its record of the peak anew."""
    Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK, encoding="ascii")


class Watch:
    """Keeps the most anonymous bytes seen while the block runs; a peak between two looks is missed."""

    def __init__(self, pid: int) -> None:
        self.anonymous = 0
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_STEP_S):
            seen = held(self._pid)
            if seen is not None:
                self.anonymous = max(self.anonymous, seen.anonymous)


def library_bytes(pid: int) -> int:
    """Pages of shared libraries that the process holds and that others may share with it."""
    total = 0
    counts = False
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8", errors="replace").splitlines():
        first = line.partition(" ")[0]
        if "-" in first and not first.endswith(":"):
            counts = ".so" in line.rpartition("/")[2] or "/bin/python" in line
        elif counts and first in ("Shared_Clean:", "Private_Clean:"):
            total += int(line.split()[1]) * 1024
    return total


def drop_cache(folder: Path) -> None:
    """Throw the files of `folder` out of the page cache: whoever reads them next is charged for them."""
    for path in folder.iterdir():
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def limited(pid: int, nbytes: int) -> Iterator[str]:
    """Give process `pid` no more than `nbytes` of RAM inside the block; says by which means.

    A memory control group below our own where one may be made; otherwise RLIMIT_DATA, which counts what is
    asked for and not what is touched, and so is the stricter one. Without swap a group's limit is hard: the
    kernel takes cached file pages back, then ends the process.
    """
    folder = _make_group(nbytes)
    if folder is None:
        resource.prlimit(pid, resource.RLIMIT_DATA, (nbytes, nbytes))
        yield "RLIMIT_DATA"
        return
    try:
        (folder / "cgroup.procs").write_text(str(pid), encoding="ascii")
        yield "memory control group"
    finally:
        _remove_group(folder)


def _make_group(nbytes: int) -> Path | None:
    for parent, name in _groups():
        folder = parent / f"snug-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / name).write_text(str(nbytes), encoding="ascii")
        except OSError:
            folder.rmdir()
            continue
        return folder
    return None


def _groups() -> Iterator[tuple[Path, str]]:
    """Our own group's folder and the file of its limit, versions 1 and 2."""
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, group = line.split(":", 2)
        if "memory" in controllers.split(","):
            yield Path("/sys/fs/cgroup/memory" + group), "memory.limit_in_bytes"
        elif not controllers:
            yield Path("/sys/fs/cgroup" + group), "memory.max"


def _remove_group(folder: Path) -> None:
    """Move what still lives there back to the group above, then remove the group."""
    for pid in (folder / "cgroup.procs").read_text(encoding="ascii").split():
        with contextlib.suppress(OSError):
            (folder.parent / "cgroup.procs").write_text(pid, encoding="ascii")
    folder.rmdir()
