"""Read a model's files through once, so that the system has them in memory when the library takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Event as Flag

from backends.engines.base import ProgressSink
from backends.errors import Cancelled
from backends.messages import Progress
from backends.models.gguf_damage import closed

_CHUNK = 8 * 1024 * 1024


def read_through(files: Sequence[Path], progress: ProgressSink, cancel: Flag) -> None:
    """Read all of `files`; progress counts bytes. Raises Cancelled, ModelDamaged for a file that can't be.

    The library tells nothing while it loads and can't be stopped: this is the part that takes the time.
    """
    total = sum(file.stat().st_size for file in files)
    done = 0
    buffer = bytearray(_CHUNK)
    progress(Progress("read", 0, total))
    for file in files:
        try:
            with file.open("rb", buffering=0) as stream:
                while count := stream.readinto(buffer):
                    if cancel.is_set():
                        raise Cancelled
                    done += count
                    progress(Progress("read", min(done, total), total))
        except OSError as error:
            raise closed(file, error) from error
    if cancel.is_set():
        raise Cancelled
