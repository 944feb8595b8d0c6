"""Ask a service, in a process of its own, what ran out of memory: which GPU is named, relieved and learnt of.

`python -m tests.support.one_of_several MODEL GPUS WORD` prints one JSON document. MODEL is a folder, GPUS the
driver's numbers that the plan may use ("2,3"), WORD the command for the fake engine.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from backends.errors import OutOfMemory
from backends.history.measurements import Measurements
from backends.placement.types import Overrides, PlanRequest
from backends.presets import Preset
from backends.service import Service
from backends.service.machine import Machine
from backends.settings import load_settings
from tests.support.asking import Asker


def look(model: str, gpus: str, word: str) -> dict[str, Any]:
    """Load `model`, let its answer run out of memory, and tell who was named where."""
    # The installed torch may be one for the CPU; the fake engine needs none.
    Machine.usable = Machine.snapshot  # type: ignore[method-assign]
    settings = load_settings()
    numbers = tuple(int(number) for number in gpus.split(","))
    with Service(settings, preload=False, engine="fake") as service:
        plan = service.plan(PlanRequest(model, Preset.HIGH, Overrides(gpus=numbers)))
        list(service.load(plan))
        asker = Asker(service, "tab", word)
        asker.finish()
        assert isinstance(asker.error, OutOfMemory), asker.error
        offer = service.next_step(asker.error, plan, "chat")
        again = service.plan(plan.request)
    return {
        "visible": plan.visible_gpus,
        "said": str(offer.error.what_text),
        "costs": [str(cost) for cost in offer.step.costs] if offer.step else [],
        "learnt": [row.device for row in Measurements(settings.home / "measurements.sqlite3").rows()],
        "overhead": {share.device: share.overhead_bytes for share in plan.devices},
        "overhead_again": {share.device: share.overhead_bytes for share in again.devices},
    }


if __name__ == "__main__":
    print(json.dumps(look(*sys.argv[1:])))
