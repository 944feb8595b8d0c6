"""What native code writes to the standard error stream while it does something, kept and passed on."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_STDERR = 2
_LONGEST = 64 * 1024
# The library's lines: minutes.seconds.milli.micro, a letter for how serious it is, the text.
_ERROR = re.compile(r"^(?:[\d.]+ )?E (.*)$")


# The library writes its log on a thread of its own: how long its last words may take, and how long nothing
# more has to come.
_LATE_S, _QUIET_S, _LOOK_S = 2.0, 0.1, 0.01


class Said:
    """The words, there once the block has ended. `size` tells how many bytes there are before."""

    def __init__(self, size: Callable[[], int] = int) -> None:
        self.text = ""
        self._size = size

    def settle(self) -> None:
        """Within the block, after a failure: let the library come to say why; two seconds at most."""
        begun = changed = time.monotonic()
        size = self._size()
        while (now := time.monotonic()) < begun + _LATE_S and (not size or now < changed + _QUIET_S):
            time.sleep(_LOOK_S)
            if (found := self._size()) != size:
                size, changed = found, now

    @property
    def errors(self) -> tuple[str, ...]:
        """The texts of the lines that report errors."""
        found = (_ERROR.match(line) for line in self.text.splitlines())
        return tuple(match[1].strip() for match in found if match)


@contextmanager
def captured() -> Iterator[Said]:
    """Collect what is written to file descriptor 2 within the block; it goes to the log afterwards.

    Into a file and not a pipe: nobody could empty one while the library holds Python's lock.
    """
    try:
        before = os.dup(_STDERR)
    except OSError:  # a Windows program without a console, whose log could not be opened either
        yield Said()
        return
    with tempfile.TemporaryFile() as held:
        said = Said(lambda: os.fstat(held.fileno()).st_size)
        os.dup2(held.fileno(), _STDERR)
        try:
            yield said
        finally:
            os.dup2(before, _STDERR)
            os.close(before)
            held.seek(0)
            words = held.read(_LONGEST)
            said.text = words.decode("utf-8", "replace")
            if words:
                os.write(_STDERR, words)
