"""The measurements' table: one SQLite file that teaches the next plans, and is never in anybody's way.

A damaged file is set aside, a folder that can't be written leaves the rows in memory, and two processes may
write at once (WAL). Nothing here raises: what can't be kept is forgotten.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from backends.placement.correction import RECENT, Run
from backends.placement.types import DeviceShare

LOG = logging.getLogger("snug.history")

_BUSY_S = 2.0
# Another process may have learnt something: look again this often.
_FRESH_S = 5.0
# Far more than any correction looks at (`RECENT` of each kind); the oldest beyond it are dropped.
_KEPT = 2000
_TABLE = """
CREATE TABLE IF NOT EXISTS measurements (
    run TEXT NOT NULL, device TEXT NOT NULL, at REAL NOT NULL,
    engine TEXT NOT NULL, precision TEXT NOT NULL, kind TEXT NOT NULL,
    model TEXT NOT NULL, placement TEXT NOT NULL, context_tokens INTEGER NOT NULL, images INTEGER NOT NULL,
    predicted TEXT NOT NULL, expected_bytes INTEGER NOT NULL, measured_bytes INTEGER NOT NULL,
    failed INTEGER NOT NULL, facts TEXT NOT NULL,
    PRIMARY KEY (run, device)
)"""
_COLUMNS = (
    "run, device, at, engine, precision, kind, model, placement, context_tokens, images, predicted, "
    "expected_bytes, measured_bytes, failed, facts"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One device of one load; a later row of the same `run` and `device` takes the place of the first.

    `at` is in seconds since 1970; `kind` is `device_kind`'s; `model` and `placement` are fingerprints;
    `predicted` is the formula's share for the `context_tokens` and `images` that were really there.
    `expected_bytes` and `measured_bytes` are what `Run` compares. `facts` is whatever else was measured, as
    JSON.
    """

    run: str
    device: str
    at: float
    engine: str
    precision: str
    kind: str
    model: str
    placement: str
    context_tokens: int
    images: int
    predicted: DeviceShare
    expected_bytes: int
    measured_bytes: int
    failed: bool = False
    facts: str = "{}"

    def as_run(self) -> Run:
        """What the correction needs of it."""
        return Run(
            self.engine, self.precision, self.kind, self.expected_bytes, self.measured_bytes, self.failed
        )


class Measurements:
    """Rows, newest first. Methods may be called from any thread."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._rows: tuple[Row, ...] = ()
        self._read_at = float("-inf")
        # What could not be written: kept while this process lives, and tried again with the next.
        self._unwritten: list[Row] = []

    def rows(self) -> tuple[Row, ...]:
        """Every row, at most some seconds old."""
        with self._lock:
            if self._clock() - self._read_at >= _FRESH_S:
                self._rows, self._read_at = self._read(), self._clock()
            return self._rows

    def add(self, rows: tuple[Row, ...]) -> None:
        """Keep `rows`, in place of those of the same run and device."""
        if not rows:
            return
        with self._lock:
            replaced = {(row.run, row.device) for row in rows}
            waiting = [row for row in self._unwritten if (row.run, row.device) not in replaced]
            everything = [*rows, *waiting]
            self._unwritten = [] if self._write(everything) else everything[: RECENT * 8]
            self._read_at = float("-inf")

    def _read(self) -> tuple[Row, ...]:
        found = list(self._unwritten)
        if not self._file.exists():
            return tuple(found)
        try:
            found += self._stored(f"{self._file.absolute().as_uri()}?mode=rw")
        except sqlite3.OperationalError:
            # A folder that is not ours to write: SQLite can't make its side files there, and needs none
            # if it is told that nobody writes.
            with contextlib.suppress(sqlite3.Error):
                found += self._stored(f"{self._file.absolute().as_uri()}?immutable=1")
        except sqlite3.DatabaseError:
            self._set_aside()
        return tuple(sorted(found, key=lambda row: -row.at))

    def _stored(self, uri: str) -> list[Row]:
        query = f"SELECT {_COLUMNS} FROM measurements ORDER BY at DESC LIMIT {_KEPT}"  # noqa: S608 - constants
        with _connected(uri) as connection:
            try:
                found = connection.execute(query).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []  # the other process is just making it
                if "no such column" in str(error):
                    raise sqlite3.DatabaseError(str(error)) from error
                raise
        return [row for row in map(_parsed, found) if row is not None]

    def _write(self, rows: Sequence[Row], *, again: bool = True) -> bool:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with _connected(f"{self._file.absolute().as_uri()}?mode=rwc") as connection:
                _store(connection, rows)
        except sqlite3.OperationalError as error:
            if again and "no column" in str(error):  # an older table
                self._set_aside()
                return self._write(rows, again=False)
            LOG.info("The measurements could not be kept: %s", error)
            return False
        except sqlite3.DatabaseError:
            self._set_aside()
            return again and self._write(rows, again=False)
        except OSError as error:
            LOG.info("The measurements could not be kept: %s", error)
            return False
        return True

    def _set_aside(self) -> None:
        """Rename a damaged file, so that a new one can be begun and nobody loses what may be in it."""
        LOG.warning("The measurements in %s can't be read; a new file is begun.", self._file)
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(OSError):
                self._file.with_name(self._file.name + suffix).unlink()
        with contextlib.suppress(OSError):
            self._file.replace(self._file.with_name(self._file.name + ".damaged"))


@contextlib.contextmanager
def _connected(uri: str) -> Iterator[sqlite3.Connection]:
    """Open a connection for one transaction: nothing stays open that could lock the folder."""
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_S)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def _store(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(_TABLE)
    marks = ", ".join("?" * 15)
    connection.executemany(
        f"INSERT OR REPLACE INTO measurements ({_COLUMNS}) VALUES ({marks})",  # noqa: S608 - constants
        [_values(row) for row in rows],
    )
    newest = "SELECT rowid FROM measurements ORDER BY at DESC LIMIT ?"
    connection.execute(f"DELETE FROM measurements WHERE rowid NOT IN ({newest})", (_KEPT,))  # noqa: S608


def _values(row: Row) -> tuple[object, ...]:
    return (
        *(row.run, row.device, row.at, row.engine, row.precision, row.kind, row.model, row.placement),
        *(row.context_tokens, row.images, json.dumps(asdict(row.predicted))),
        *(row.expected_bytes, row.measured_bytes, int(row.failed), row.facts),
    )


def _parsed(values: tuple[Any, ...]) -> Row | None:
    """A row as it was written; None for one that something else has written."""
    try:
        predicted = DeviceShare(**json.loads(values[10]))
        numbers = (int(values[11]), int(values[12]), bool(values[13]))
        texts = tuple(str(value) for value in (*values[:2], *values[3:8]))
        at, context, images = float(values[2]), int(values[8]), int(values[9])
        run, device, engine, precision, kind, model, placement = texts
        return Row(
            *(run, device, at, engine, precision, kind, model, placement, context, images, predicted),
            *numbers,
            str(values[14]),
        )
    except (TypeError, ValueError):
        return None
