"""Chooses the layout of a tower by comparing the library with transformers: once a model and a version."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Flag

from backends.conversion.cache import comparing_folder, lock_of, stem
from backends.conversion.layouts import LIBRARY, Choice, Compared, best, library_version, read, write
from backends.conversion.lock import held
from backends.conversion.types import Layout, Request, WeightType
from backends.engines.base import ProgressSink
from backends.engines.llamacpp.probe import Probe, ProbeFailedError, run
from backends.engines.llamacpp.threads import choose_threads
from backends.messages import Progress
from backends.storage import ensure_writable

_log = logging.getLogger(__name__)
# What a tower without a class token can't be wrong about: for a machine that can't compare at all.
_UNCOMPARED = Layout.NO_CLASS


def choose(request: Request, progress: ProgressSink, cancel: Flag) -> Choice:
    """The layout for the checkpoint of `request`, compared now unless it was before.

    Where comparing with its own tower fails, the library's answer about a tiny random one stands in, until
    the next time. Raises Cancelled, FolderReadOnly, and what reading the checkpoint's headers raises.
    """
    library, beginning = library_version(), stem(request.folder)
    found = read(request.cache, beginning, library)
    if found is not None and found.settled:
        return found
    with _alone(request.cache, progress, cancel) as folder:
        found = read(request.cache, beginning, library)
        if found is not None and found.settled:
            return found
        probe = Probe(request.folder, folder, request.vision_kind, choose_threads())
        try:
            choice = _chosen(run(probe, progress, cancel), library)
        except ProbeFailedError as error:
            _log.warning("The layouts of %s could not be compared: %s", request.folder, error)
            of_library = _of_library(request.cache, folder, progress, cancel)
            choice = Choice(of_library.layout, library, of_library.gaps, of_library.compared)
        if choice.compared is not Compared.NOTHING:
            write(request.cache, beginning, choice)
        return choice


def choose_for_library(cache: Path, progress: ProgressSink, cancel: Flag) -> Choice:
    """The layout that the library reads best of a tiny random tower: for files whose model is not there."""
    found = read(cache, LIBRARY, library_version())
    if found is not None:
        return found
    with _alone(cache, progress, cancel) as folder:
        return _of_library(cache, folder, progress, cancel)


def _of_library(cache: Path, folder: Path, progress: ProgressSink, cancel: Flag) -> Choice:
    library = library_version()
    found = read(cache, LIBRARY, library)
    if found is not None:
        return found
    probe = Probe(None, folder, WeightType.F32, choose_threads())
    try:
        gaps = run(probe, progress, cancel)
    except ProbeFailedError as error:
        _log.warning("llama.cpp could not be compared with transformers: %s", error)
        return Choice(_UNCOMPARED, library, {}, Compared.NOTHING)
    choice = _chosen(gaps, library, Compared.LIBRARY)
    write(cache, LIBRARY, choice)
    return choice


def _chosen(gaps: Mapping[Layout, float], library: str, compared: Compared = Compared.MODEL) -> Choice:
    return Choice(best(gaps), library, {layout.value: gap for layout, gap in gaps.items()}, compared)


@contextmanager
def _alone(cache: Path, progress: ProgressSink, cancel: Flag) -> Iterator[Path]:
    """An empty folder for the files of a comparison, which no other process makes meanwhile."""
    ensure_writable(cache)
    folder = comparing_folder(cache)

    def waiting() -> None:
        progress(Progress("comparing", 0, 0))

    with held(lock_of(folder), waiting=waiting, cancel=cancel):
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was ended
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
