"""Asks how far the library's view of pictures is from transformers', in a process of its own.

Torch would stay in this one's memory, and the library may end the process that it is in.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import backends
from backends.conversion.types import Layout, WeightType
from backends.engines.base import ProgressSink
from backends.errors import Cancelled
from backends.messages import Progress

_MODULE = "backends.engines.llamacpp.probe_start"
_TICK_S, _TELL_S = 0.05, 1.0
# A tower on a slow machine takes minutes; more means that something hangs.
_LONGEST_S = 600.0


class ProbeFailedError(Exception):
    """The comparison did not come to an end."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A comparison of the tower in the checkpoint `folder` (None: of a tiny random one) in all layouts.

    `scratch` takes files while it runs; matrices are written in `vision_kind`.
    """

    folder: Path | None
    scratch: Path
    vision_kind: WeightType
    threads: int


def run(probe: Probe, progress: ProgressSink, cancel: threading.Event) -> Mapping[Layout, float]:
    """The gap of each layout (see `Choice`). Raises Cancelled at once when called off, ProbeFailedError."""
    job = {
        "folder": None if probe.folder is None else str(probe.folder.resolve()),
        "scratch": str(probe.scratch.resolve()),
        "vision_kind": probe.vision_kind.value,
        "threads": probe.threads,
    }
    progress(Progress("comparing", 0, 0))
    process = _start()
    said: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    assert process.stdin is not None
    assert process.stdout is not None
    threading.Thread(target=_listen, args=(process.stdout, said), name="snug-probe", daemon=True).start()
    try:
        # The pipe stays open: the process ends by itself when this one does.
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        return _gaps(said, progress, cancel)
    except OSError as error:
        raise ProbeFailedError("it ended at once") from error
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        with contextlib.suppress(OSError):  # it ended before it read its job
            process.stdin.close()


def _gaps(
    said: queue.SimpleQueue[dict[str, Any] | None], progress: ProgressSink, cancel: threading.Event
) -> Mapping[Layout, float]:
    until = time.monotonic() + _LONGEST_S
    heard, told = Progress("comparing", 0, 0), time.monotonic()
    while not cancel.is_set():
        try:
            line = said.get(timeout=_TICK_S)
        except queue.Empty:
            if time.monotonic() > until:
                raise ProbeFailedError("it took too long") from None
            if time.monotonic() - told >= _TELL_S:  # a step may take long: its seconds are counted
                told = time.monotonic()
                progress(heard)
            continue
        match line:
            case {"done": int(done), "total": int(total)}:
                heard, told = Progress("comparing", done, total), time.monotonic()
                progress(heard)
            case {"gaps": dict(gaps)}:
                return {Layout(layout): float(gap) for layout, gap in gaps.items()}
            case {"error": str(error)}:
                raise ProbeFailedError(error)
            case None:
                raise ProbeFailedError("its process ended")
    raise Cancelled


def _start() -> subprocess.Popen[str]:
    root = str(Path(backends.__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", _MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUTF8": "1"},
        # A program without a console would open one for its child.
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


def _listen(stream: IO[str], said: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    """Pass on what is said in JSON; libraries write other lines."""
    try:
        for line in stream:
            try:
                document = json.loads(line)
            except ValueError:
                continue
            if isinstance(document, dict):
                said.put(document)
    except (OSError, ValueError):  # closed
        pass
    said.put(None)
