"""What the model's host needs of the machine around it, as a contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from backends.errors import SnugError
from backends.placement.types import Plan
from backends.worker.client import WorkerClient
from backends.worker.memory import FreeMemory

OnExit = Callable[[WorkerClient, SnugError], None]


class Surroundings(Protocol):
    """Processes, free memory and folders; `Machine` has them, tests give their own."""

    def spawn(self, engine: str, plan: Plan | None, on_exit: OnExit) -> WorkerClient:
        """Start a child process; with a plan, one that sees that plan's GPUs from the start."""
        ...

    def free(self, plan: Plan) -> FreeMemory:
        """What is available now on the devices of `plan`."""
        ...

    def held(self, pid: int, plan: Plan) -> FreeMemory:
        """What process `pid` holds on the devices of `plan`."""
        ...

    def offload_folder(self) -> Path:
        """Where plans may put weights on the disk."""
        ...
