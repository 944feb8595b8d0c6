"""The service's own log: a file that is made when there is something to write, never the person's console."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from backends.worker.logs import new_log

_ROOT = "snug"


class _Quiet(logging.FileHandler):
    """A log that can't be written (a full disk) is no reason to print tracebacks on the console."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name that logging calls
        """Let the record go."""


class Journal(logging.Handler):
    """Writes what the `snug` loggers say to a new file below `folder`, from the first record on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(logging.INFO)
        self._folder = folder
        self._file: logging.FileHandler | None = None
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger(_ROOT).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record (the logging module holds the handler's lock)."""
        if self._file is None:
            path = new_log(self._folder, prefix="service")
            self._file = _Quiet(path, encoding="utf-8", errors="replace")
            self._file.setFormatter(self.formatter)
        self._file.emit(record)

    def close(self) -> None:
        """Stop listening and close the file."""
        logging.getLogger(_ROOT).removeHandler(self)
        if self._file is not None:
            with contextlib.suppress(OSError):  # what could not be written stays unwritten
                self._file.close()
        super().close()
