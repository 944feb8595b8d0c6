"""A task that a child process works on, as seen by whoever waits for it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

from backends.errors import SnugError
from backends.messages import Event, Progress, TextDelta
from backends.reports import DevicePeak, LoadReport
from backends.text import Text

# Waits are cut into pieces because Windows delivers Ctrl+C to the main thread only between them.
TICK_S = 0.25


class Task:
    """Iterate over it for its events; it raises the task's error, or ends.

    `report` is the result of a load or move; `replace` says that a load needs a fresh process, `lost` that a
    move left no model; `memory` is there when an answer gives its `Done`. One thread iterates, any may
    cancel.
    """

    def __init__(
        self,
        number: int,
        stage: Text,
        cancel: Callable[[Task], None],
        on_end: Callable[[Task], None] | None = None,
    ) -> None:
        self.number = number
        self.stage = stage
        self.report: LoadReport | None = None
        self.replace = False
        self.lost = False
        self.memory: tuple[DevicePeak, ...] = ()
        self.error: SnugError | None = None
        self.cancelled = False
        self._cancel = cancel
        self._on_end = on_end
        self._items: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._limit: threading.Timer | None = None
        self._lock = threading.Lock()

    @property
    def ended(self) -> bool:
        """Whether the last reply came, or the process is gone."""
        return self._ended.is_set()

    def cancel(self) -> None:
        """Ask for the end; it comes with the usual last reply. Safe to repeat and after the end."""
        with self._lock:
            if self.cancelled or self.ended:
                return
            self.cancelled = True
        self._cancel(self)

    def wait(self, seconds: float) -> bool:
        """Wait for the end without taking events."""
        return self._ended.wait(seconds)

    def __iter__(self) -> Iterator[Event]:
        """Give events as they come; text that piled up while the reader was busy comes as one piece."""
        while True:
            items = self._take()
            yield from _merge([item for item in items if item is not None])
            if items[-1] is None:
                if self.error is not None:
                    raise self.error
                return

    def _take(self) -> list[Event | None]:
        """Everything that is there; waits for the first."""
        items: list[Event | None] = []
        while not items:
            try:
                items.append(self._items.get(timeout=TICK_S))
            except queue.Empty:
                continue
        while items[-1] is not None:
            try:
                items.append(self._items.get_nowait())
            except queue.Empty:
                break
        return items

    def give(self, item: Event) -> None:
        """Add an event (the client's listener calls this)."""
        self._items.put(item)

    def end(self, error: SnugError | None = None) -> None:
        """Mark the end (the client's listener calls this)."""
        with self._lock:
            self.error = error
            self._ended.set()
            limit = self._limit
        if limit is not None:
            stop_timer(limit)
        self._items.put(None)
        if self._on_end is not None:
            self._on_end(self)

    def limit(self, seconds: float, give_up: Callable[[], None]) -> None:
        """Call `give_up` unless the task ends within `seconds`."""
        with self._lock:
            if self.ended:
                return
            self._limit = threading.Timer(seconds, give_up)
            self._limit.daemon = True
            self._limit.start()


def stop_timer(timer: threading.Timer) -> None:
    """Cancel a timer and wait until its thread is gone."""
    timer.cancel()
    timer.join()


def _merge(items: list[Event]) -> Iterator[Event]:
    """Join neighbouring pieces of text; of neighbouring progress keep the last."""
    pending: Event | None = None
    for item in items:
        if isinstance(pending, TextDelta) and isinstance(item, TextDelta):
            pending = TextDelta(pending.text + item.text)
            continue
        if pending is not None and not (isinstance(pending, Progress) and isinstance(item, Progress)):
            yield pending
        pending = item
    if pending is not None:
        yield pending
