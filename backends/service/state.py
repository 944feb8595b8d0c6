"""What the model is doing, as a value that the page can poll."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backends.errors import SnugError
from backends.messages import Progress
from backends.placement.types import Plan
from backends.reports import LoadReport, Measurement

Status = Literal["empty", "loading", "ready", "crashed"]


@dataclass(frozen=True, slots=True)
class ModelState:
    """The model at one moment.

    `moving` says of status `loading` that a loaded model takes other places in memory; nothing is read.
    `plan` is what is loaded, being loaded or crashed; `report` what the load really made; `error` why the
    last load failed (status `empty`; `failed` is its plan) or the process ended (`crashed`). `busy` says
    that an answer is being made, `waiting` how many requests stand behind it. `measured` is what the loaded
    model has held at most, from its first answer on. `left_s` is how many seconds the stage of `progress`
    still takes, where that can be told, and `lasted_s` how many it has taken so far.
    """

    status: Status = "empty"
    plan: Plan | None = None
    report: LoadReport | None = None
    error: SnugError | None = None
    progress: Progress | None = None
    busy: bool = False
    waiting: int = 0
    worker_pid: int | None = None
    measured: Measurement | None = None
    failed: Plan | None = None
    moving: bool = False
    left_s: float | None = None
    lasted_s: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """A model that is in memory, whole.

    `state` is what a move that is called off comes back to; `plan` is the loaded one, and `files` stands for
    the model's files as they were read.
    """

    state: ModelState
    plan: Plan
    files: object
