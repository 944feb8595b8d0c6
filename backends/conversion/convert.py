"""Converts a checkpoint once: taken from the cache, or written there under another name first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag
from typing import TypeAlias

from backends.conversion.cache import Targets, in_use, named, remove_leftovers, stem, targets, touch
from backends.conversion.checkpoint import Checkpoint, open_checkpoint
from backends.conversion.making import MARGIN_BYTES, is_whole, make
from backends.conversion.types import Converted, Document, Request
from backends.conversion.writer import source_bytes, write_document
from backends.storage import ensure_writable

# Called with the bytes of source weights that are converted, and their total.
Progress: TypeAlias = Callable[[int, int], None]
# How often files are made that go missing before all of them are there.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class _Job:
    """A file that is not there yet."""

    target: Path
    document: Document
    source_bytes: int


def find(request: Request) -> Converted | None:
    """The files of `request`, if they are there already and whole. Reads small files and headers only."""
    return _found(targets(request))


def _found(named: Targets) -> Converted | None:
    paths = [path for path in (named.text, named.mmproj) if path is not None]
    if not all(is_whole(path) for path in paths):
        return None
    for path in paths:
        touch(path)
    return Converted(named.text, named.mmproj)


def convert(request: Request, progress: Progress, cancel: Flag) -> Converted:
    """Make what is missing of the files of `request`; a process that already makes one is waited for.

    A file appears under its name when it is complete, never before; one that was damaged since is made anew.
    What somebody removes meanwhile is made again. Raises Cancelled, DiskFull, FolderReadOnly,
    ModelUnsupported, ModelDamaged or ModelNotFound; what is unfinished is removed then.
    """
    beginning = stem(request.folder)
    target = named(beginning, request)
    with in_use(request.cache, beginning):
        for _ in range(_ATTEMPTS):
            found = _found(target)
            if found is not None:
                return found
            _make_missing(request, target, progress, cancel)
    return Converted(target.text, target.mmproj)


def _make_missing(request: Request, named: Targets, progress: Progress, cancel: Flag) -> None:
    ensure_writable(request.cache)
    remove_leftovers(request.cache)
    checkpoint = open_checkpoint(request.folder)
    jobs = _jobs(request, checkpoint, named)
    total, before = sum(job.source_bytes for job in jobs), 0
    for number, job in enumerate(jobs):
        room = sum(later.document.nbytes for later in jobs[number:]) + MARGIN_BYTES

        def report(done: int, before: int = before) -> None:
            progress(before + done, total)

        _make(job, checkpoint, threads=request.threads, room=room, report=report, cancel=cancel)
        before += job.source_bytes
        progress(before, total)


def _jobs(request: Request, checkpoint: Checkpoint, named: Targets) -> list[_Job]:
    """What is missing, described before anything is written: a refusal then costs no time."""
    documents: list[tuple[Path, Document]] = []
    if not is_whole(named.text):
        documents.append((named.text, checkpoint.text_document(request.kind)))
    if request.layout is not None and named.mmproj is not None and not is_whole(named.mmproj):
        document = checkpoint.picture_document(request.layout, request.vision_kind)
        documents.append((named.mmproj, document))
    return [_Job(path, document, source_bytes(document, checkpoint.tensors)) for path, document in documents]


def _make(
    job: _Job,
    checkpoint: Checkpoint,
    *,
    threads: int,
    room: int,
    report: Callable[[int], None],
    cancel: Flag,
) -> None:
    """Write one file, unless another process just did; `room` bytes have to be free on the disk."""

    def write(part: Path) -> None:
        write_document(
            job.document,
            checkpoint.folder,
            checkpoint.tensors,
            part,
            threads=threads,
            report=report,
            cancel=cancel,
        )

    report(0)
    make(
        job.target,
        write,
        room=room,
        waiting=lambda part: report(_others_share(part, job)),
        cancel=cancel,
    )


def _others_share(part: Path, job: _Job) -> int:
    """Bytes of source weights that stand for what another process has written."""
    try:
        written = part.stat().st_size
    except OSError:
        return 0
    return min(job.source_bytes, job.source_bytes * written // max(1, job.document.nbytes))
