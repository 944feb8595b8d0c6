"""What deciding costs: reading a model of 1,500 tensors, and planning it for eight cards.

python -m benchmarks.planning [--rounds 200]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from backends.hardware.types import HardwareSnapshot
from backends.models.identify import identify
from backends.models.types import ModelInfo
from backends.placement.planner import plan
from backends.placement.types import PlanRequest
from backends.presets import Preset
from benchmarks.report import Row, publish
from tests.support import checkpoints
from tests.support.machines import machine, rtx_2060, rtx_2080_ti, rtx_4060

IDENTIFY_GOAL_MS, PLAN_GOAL_MS = 50.0, 20.0
MACHINES = {
    "one card of 8 GB": machine(rtx_4060()),
    "one card of 6 GB, nothing fits whole": machine(rtx_2060(), ram=16),
    "eight cards of 11 GB": machine(*(rtx_2080_ti(index) for index in range(8)), ram=128),
    "eight full cards": machine(*(rtx_2080_ti(index, free=1.5) for index in range(8)), ram=16),
}


def median_ms(work: Callable[[], object], rounds: int) -> float:
    """Median milliseconds of processor time that `work` takes (a busy machine does not change it)."""
    taken: list[float] = []
    for _ in range(rounds):
        begun = time.process_time()
        work()
        taken.append((time.process_time() - begun) * 1000)
    return statistics.median(taken)


def large_model(folder: Path) -> tuple[Path, int]:
    """Headers of a decoder with more than 1,500 tensors; returns the folder and their number."""
    checkpoints.llama(folder, layers=168)
    return folder, 168 * 9 + 3


def cold(folder: Path) -> tuple[float, bool]:
    """Milliseconds in a process of its own that has read nothing yet, and whether torch got in there.

    Imports are not counted.
    """
    code = (
        "import sys, time; from pathlib import Path; from backends.models.identify import identify; "
        f"t = time.process_time(); identify(Path({str(folder)!r})); "
        "print((time.process_time() - t) * 1000, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    milliseconds, with_torch = done.stdout.split()
    return float(milliseconds), with_torch == "True"


def slowest_ms(hardware: HardwareSnapshot, model: ModelInfo, rounds: int) -> float:
    """Milliseconds of the preset that takes longest."""
    return max(
        median_ms(partial(plan, hardware, model, PlanRequest("m", preset)), rounds) for preset in Preset
    )


def planning_rows(model: ModelInfo, rounds: int) -> list[Row]:
    """One row a machine: the slowest preset."""
    rows: list[Row] = []
    for name, hardware in MACHINES.items():
        slowest = slowest_ms(hardware, model, rounds)
        goal = f"<= {PLAN_GOAL_MS:.0f} ms"
        rows.append(
            Row(
                f"Plan LLaVA-1.5-7B: {name}, slowest preset",
                f"{slowest:.1f} ms",
                goal,
                slowest <= PLAN_GOAL_MS,
            )
        )
    return rows


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as temporary:
        large, tensors = large_model(Path(temporary) / "large")
        llava = identify(checkpoints.llava_15_7b(Path(temporary) / "llava"))
        warm = median_ms(lambda: identify(large), rounds)
        first, with_torch = cold(large)
        goal = f"<= {IDENTIFY_GOAL_MS:.0f} ms"
        rows = [
            Row(f"Identify {tensors:,} tensors", f"{warm:.1f} ms", goal, warm <= IDENTIFY_GOAL_MS),
            Row(
                f"Identify {tensors:,} tensors, first in its process",
                f"{first:.1f} ms",
                goal,
                first <= IDENTIFY_GOAL_MS,
            ),
            Row("torch imported for it", "yes" if with_torch else "no", "no", not with_torch),
            *planning_rows(llava, rounds),
        ]
    publish("planning", rows, {"rounds": rounds, "statistic": "median processor time"})


if __name__ == "__main__":
    main()
