"""What native code writes to the standard error stream while it does something, kept and passed on."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_STDERR = 2
_LONGEST = 64 * 1024
# The library's lines: minutes.seconds.milli.micro, a letter for how serious it is, the text.
_ERROR = re.compile(r"^(?:[\d.]+ )?E (.*)$")


class Said:
    """The words, there once the block has ended."""

    def __init__(self) -> None:
        self.text = ""

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
    said = Said()
    try:
        before = os.dup(_STDERR)
    except OSError:  # a Windows program without a console, whose log could not be opened either
        yield said
        return
    with tempfile.TemporaryFile() as held:
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
