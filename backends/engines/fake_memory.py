"""How the fake engine runs out of memory.

In a question, the plan's first device runs out while answering: `oom-over:1500` as long as the plan has room
for more than 1,500 tokens, `oom-while-fp32` as long as it has that precision; `oom-gpu:3` is the driver's
GPU 3, named as real engines do, as long as the plan uses it, and `oom-gpu:?` one that nobody names. In a
model's path, `oom-load-fp32` makes it run out while loading in that precision.
"""

from __future__ import annotations

import re

from backends.engines.stages import ANSWERING, LOADING
from backends.errors import OutOfGpuMemory, OutOfMemory, OutOfRam
from backends.placement.types import Plan
from backends.text import Text


def while_loading(name: str, plan: Plan) -> None:
    """Raise what the model's `name` asks for."""
    if f"oom-load-{plan.precision}" in name:
        raise _out_of_memory(plan, LOADING)


def while_answering(question: str, plan: Plan) -> None:
    """Raise what the `question` asks for."""
    over = re.search(r"oom-over:(\d+)", question)
    if (over and plan.context_tokens > int(over[1])) or f"oom-while-{plan.precision}" in question:
        raise _out_of_memory(plan, ANSWERING)
    of = re.search(r"oom-gpu:(\d+|\?)", question)
    if of and (of[1] == "?" or int(of[1]) in plan.visible_gpus):
        name = "A GPU" if of[1] == "?" else f"GPU {of[1]}"
        raise OutOfGpuMemory(device=name, stage=ANSWERING, needed_bytes=4 << 20, free_bytes=1 << 20)


def _out_of_memory(plan: Plan, stage: Text) -> OutOfMemory:
    """What an engine raises when the plan's first device can't give 4 MiB."""
    device, figures = plan.devices[0].device, {"needed_bytes": 4 << 20, "free_bytes": 1 << 20}
    if device == "cpu":
        return OutOfRam(stage=stage, **figures)
    return OutOfGpuMemory(device=device, stage=stage, **figures)
