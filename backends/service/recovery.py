"""Memory ran out: which device, at what, and the next step that the planner believes in."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from backends.errors import OutOfGpuMemory, OutOfMemory, RamKilled
from backends.models.types import ModelInfo
from backends.placement import ladder
from backends.placement.ladder import Judge, Rung, Shortage, Step, Tried, When
from backends.placement.ladder_words import device_name
from backends.placement.types import Plan, PlanRequest
from backends.text import Text

_FIRST_PICTURE = Text("worker.stage.picture", "looking at the picture")
_NUMBER = re.compile(r"\bGPU (\d+)")


@dataclass(frozen=True, slots=True)
class Offer:
    """What a person is shown: the error, and the steps that help, or that there is none.

    `error` names the device as the person knows it, where it is known; `steps` are in the ladder's order.
    """

    error: OutOfMemory
    failed: Plan
    steps: tuple[Step, ...] = ()
    nothing: Text | None = None

    @property
    def step(self) -> Step | None:
        """The next step: the mildest that helps."""
        return self.steps[0] if self.steps else None


def offer(  # noqa: PLR0917 - what happened, and what a step is judged by
    error: OutOfMemory,
    failed: Plan,
    shortage: Shortage,
    inspect: Callable[[PlanRequest], ModelInfo],
    judge: Judge,
    tried: Tried,
    without: Collection[Rung] = (),
) -> Offer:
    """Find the steps that help. Raises what `inspect` raises."""
    steps = tuple(ladder.steps(failed, shortage, inspect(failed.request), judge, tried, without))
    nothing = None if steps else ladder.nothing_left(failed, shortage)
    return Offer(_named(error, failed, shortage), failed, steps, nothing)


def shortage_of(error: OutOfMemory, failed: Plan, when: When, prompt_tokens: int = 0) -> Shortage:
    """What ran out, in the planner's words; where nobody told which GPU, the one with the least to spare."""
    # Of a process that the system has ended, only what was planned is known, not what was missing.
    known = not isinstance(error, RamKilled)
    needed, free = (_number(error, name) if known else 0 for name in ("needed_bytes", "free_bytes"))
    return Shortage(device_of(error, failed) or _tightest(failed), when, needed, free, prompt_tokens)


def device_of(error: OutOfMemory, failed: Plan) -> str | None:
    """The plan's id of the device that ran out; None where nobody told which of several GPUs it was.

    Engines name a GPU by its id in the plan or as `GPU 3`; both are the driver's number.
    """
    if not isinstance(error, OutOfGpuMemory):
        return "cpu"
    named, gpus = str(error.values.get("device")), _gpus(failed)
    if any(share.device == named for share in failed.devices):
        return named
    number = _NUMBER.search(named)
    if number is not None and f"cuda:{number[1]}" in gpus:
        return f"cuda:{number[1]}"
    return gpus[0] if len(gpus) == 1 else None


def _gpus(plan: Plan) -> list[str]:
    return [f"cuda:{index}" for index in plan.visible_gpus]


def _tightest(plan: Plan) -> str:
    """The GPU that the plan leaves the least room on."""
    spare = {share.device: share.budget_bytes - share.total_bytes for share in plan.devices}
    return min(_gpus(plan), key=lambda device: spare.get(device, 0), default="cuda:0")


def _number(error: OutOfMemory, name: str) -> int:
    value = error.values.get(name)
    return value if isinstance(value, int) else 0


def _named(error: OutOfMemory, failed: Plan, shortage: Shortage) -> OutOfMemory:
    values = dict(error.values)
    if isinstance(error, OutOfGpuMemory) and device_of(error, failed) is not None:
        values["device"] = device_name(failed, shortage.device)
    if shortage.when == "image":
        values["stage"] = _FIRST_PICTURE
    return type(error)(**values)
