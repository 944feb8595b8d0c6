"""Memory ran out: which device, at what, and the next step that the planner believes in."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from backends.errors import OutOfGpuMemory, OutOfMemory, RamKilled
from backends.models.types import ModelInfo
from backends.placement import ladder
from backends.placement.ladder import Judge, Shortage, Step, Tried, When
from backends.placement.ladder_words import device_name
from backends.placement.types import Plan
from backends.text import Text

_FIRST_PICTURE = Text("worker.stage.picture", "looking at the picture")


@dataclass(frozen=True, slots=True)
class Offer:
    """What a person is shown: the error, and the next step, or why there is none.

    `error` names the device as the person knows it.
    """

    error: OutOfMemory
    failed: Plan
    step: Step | None
    nothing: Text | None = None


def offer(  # noqa: PLR0917 - what happened, and what a step is judged by
    error: OutOfMemory,
    failed: Plan,
    shortage: Shortage,
    inspect: Callable[[str], ModelInfo],
    judge: Judge,
    tried: Tried,
) -> Offer:
    """Find the next step. Raises what `inspect` raises."""
    steps = ladder.steps(failed, shortage, inspect(failed.request.model), judge, tried)
    step = next(steps, None)
    nothing = None if step is not None else ladder.nothing_left(failed, shortage)
    return Offer(_named(error, failed, shortage), failed, step, nothing)


def shortage_of(error: OutOfMemory, failed: Plan, when: When, prompt_tokens: int = 0) -> Shortage:
    """What ran out, in the planner's words."""
    # Of a process that the system has ended, only what was planned is known, not what was missing.
    known = not isinstance(error, RamKilled)
    needed, free = (_number(error, name) if known else 0 for name in ("needed_bytes", "free_bytes"))
    return Shortage(_device(error, failed), when, needed, free, prompt_tokens)


def _number(error: OutOfMemory, name: str) -> int:
    value = error.values.get(name)
    return value if isinstance(value, int) else 0


def _device(error: OutOfMemory, failed: Plan) -> str:
    """The plan's id of the device: engines number GPUs from 0 among those that they see."""
    if not isinstance(error, OutOfGpuMemory):
        return "cpu"
    named, gpus = str(error.values.get("device")), failed.visible_gpus
    if any(share.device == named for share in failed.devices):
        return named
    number = re.search(r"\d+", named)
    position = int(number.group()) if number else 0
    if not gpus:
        return f"cuda:{position}"
    return f"cuda:{gpus[position] if position < len(gpus) else gpus[0]}"


def _named(error: OutOfMemory, failed: Plan, shortage: Shortage) -> OutOfMemory:
    values = dict(error.values)
    if isinstance(error, OutOfGpuMemory):
        values["device"] = device_name(failed, shortage.device)
    if shortage.when == "image":
        values["stage"] = _FIRST_PICTURE
    return type(error)(**values)
