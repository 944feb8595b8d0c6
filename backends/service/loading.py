"""A load that is under way, independent of who watches it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from backends.errors import SnugError
from backends.messages import Progress
from backends.placement.types import Plan
from backends.worker.task import TICK_S, Task


class LoadJob:
    """Holds a load's progress and outcome. `changed` guards every field and is notified of all changes."""

    def __init__(self, plan: Plan, changed: threading.Condition) -> None:
        self.plan = plan
        self.progress = Progress("start", 0, 0)
        self.error: SnugError | None = None
        self.ended = False
        self.cancelled = False
        self._changed = changed
        self._task: Task | None = None

    def cancel(self) -> None:
        """Ask for the end; it comes when the engine has seen it."""
        with self._changed:
            self.cancelled = True
            if self._task is not None:
                self._task.cancel()

    def runs_as(self, task: Task) -> None:
        """Name the worker's task that carries it out."""
        with self._changed:
            self._task = task
            if self.cancelled:
                task.cancel()

    def end(self, error: SnugError | None) -> None:
        """Record the outcome."""
        with self._changed:
            self.error, self.ended = error, True
            self._changed.notify_all()

    def follow(self) -> Iterator[Progress]:
        """Give the newest progress until the end; raises the load's error. Leaving off stops nothing."""
        seen: Progress | None = None
        while True:
            with self._changed:
                while self.progress is seen and not self.ended:
                    self._changed.wait(TICK_S)
                progress = self.progress
            if progress is seen:
                break
            seen = progress
            yield progress
        if self.error is not None:
            raise self.error
