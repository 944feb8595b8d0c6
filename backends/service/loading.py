"""A load (or a move) that is under way, independent of who watches it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from backends.errors import DoesNotFit, SnugError
from backends.messages import Progress
from backends.placement.shortages import SHORT_OF_MEMORY
from backends.placement.types import Plan
from backends.service.pace import Pace
from backends.text import Text
from backends.worker.task import TICK_S, Task


class LoadJob:
    """Holds a load's progress and outcome. `changed` guards every field and is notified of all changes.

    `files` stands for the model's files as they are now; `moving` says that none of them is read.
    """

    def __init__(self, plan: Plan, files: object, changed: threading.Condition) -> None:
        self.plan = plan
        self.files = files
        self.moving = False
        self.progress = Progress("start", 0, 0)
        self.pace = Pace()
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


def remove_offloaded(folders: Iterable[str], ours: Path) -> None:
    """Remove the weights that an ended process left on the disk, in our own folder only."""
    for folder in map(Path, folders):
        if folder != ours and folder.is_relative_to(ours):
            shutil.rmtree(folder, ignore_errors=True)


def does_not_fit(plan: Plan) -> DoesNotFit:
    """The plan's own words; the reason with the missing bytes tells most."""
    nothing = Text("service.no_reason", "No placement was found.")
    with_figures = [reason for reason in plan.reasons if reason.code in SHORT_OF_MEMORY]
    return DoesNotFit(
        model=plan.request.model,
        preset=plan.request.preset,
        detail=next(iter([*with_figures, *plan.reasons]), nothing),
        suggestion=Text("service.smaller", "Choose another preset, a smaller model, or a shorter context."),
    )
