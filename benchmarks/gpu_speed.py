"""Layers in RAM beside a GPU: how much faster they decode by computing there than by visiting the GPU.

Runs on a machine with an NVIDIA card of 8 GB or more. A LLaVA-1.5-7B shape in bfloat16 with random weights,
some of its 32 decoder layers in RAM: the same map is run with `cpu_layers_mode` "compute" and "stream",
placed as the engine does, alternating. Both are set beside what the planner expects, for this machine as
measured by `hardware.calibrate`. Needs torch, transformers (>= 5.10), accelerate, bitsandbytes, psutil and
nvidia-ml-py.

    python -m benchmarks.gpu_speed [--layers N ...] [--rounds 3] [--minutes 7.5] [--folder FOLDER]

Exit codes: 0, or 2 without an NVIDIA GPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_args

from backends.hardware import calibrate
from backends.hardware.detect import detect
from backends.hardware.types import HardwareSnapshot
from backends.models.identify import identify
from backends.models.types import ModelInfo
from backends.placement.planner import plan
from backends.placement.types import CpuLayersMode, Overrides, Plan, PlanRequest
from backends.presets import Preset
from benchmarks.gpu_memory import NO_GPU
from benchmarks.gpu_models import KINDS, config_of, write_checkpoint
from benchmarks.report import Row, publish

GOAL, SPEED_SHARE = 3.0, 0.25
NAME, CONTEXT, LAYERS = "llava-1.5-7b", 1024, (8, 16, 24)
# A load and a round of either mode take no longer than this on any machine worth measuring.
_CASE_S = 60.0


@dataclass(frozen=True, slots=True)
class Found:
    """One mode with `layers` in RAM: medians of the rounds, beside what the plan expected."""

    layers: int
    mode: str
    tokens_per_s: float
    first_s: float
    expected_tokens_per_s: float
    expected_first_s: float

    @property
    def met(self) -> bool:
        """Whether the expected decode speed is within the goal."""
        return abs(self.expected_tokens_per_s - self.tokens_per_s) <= SPEED_SHARE * self.tokens_per_s


def plan_for(model: ModelInfo, machine: HardwareSnapshot, in_ram: int, mode: CpuLayersMode) -> Plan:
    """The planner's plan with `in_ram` layers in RAM."""
    overrides = Overrides(
        gpu_layers=model.layers - in_ram,
        cpu_layers_mode=mode,
        context_tokens=CONTEXT,
        images=1,
        precision="bf16",
    )
    return plan(machine, model, PlanRequest(str(model.path), Preset.CUSTOM, overrides))


def measure(model: ModelInfo, machine: HardwareSnapshot, in_ram: int, rounds: int) -> list[Found]:
    """Both modes, round by round."""
    from benchmarks import gpu_run

    kind = replace(KINDS[NAME], context=CONTEXT)
    seen: dict[str, list[gpu_run.Timed]] = {mode: [] for mode in get_args(CpuLayersMode)}
    plans = {mode: plan_for(model, machine, in_ram, mode) for mode in get_args(CpuLayersMode)}
    for mode, decided in plans.items():
        with gpu_run.limited(machine.gpus[0].free_bytes), gpu_run.loaded(decided) as loaded:
            for round_ in range(rounds + 1):
                timed = gpu_run.run(loaded, kind, decided, context=CONTEXT, side=336, image_tokens=576)
                if round_:  # the first one loads kernels and touches pages
                    seen[mode].append(timed)
        loaded = None
    return [
        Found(
            in_ram,
            mode,
            1 / statistics.median(timed.token_s for timed in seen[mode]),
            statistics.median(timed.first_s for timed in seen[mode]),
            decided.expected.tokens_per_s,
            decided.expected.first_token_s,
        )
        for mode, decided in plans.items()
    ]


def rows(found: Sequence[Found]) -> list[Row]:
    """The table: the ratio for every number of layers, then each mode beside its prediction."""
    table: list[Row] = []
    for layers in dict.fromkeys(one.layers for one in found):
        by_mode = {one.mode: one for one in found if one.layers == layers}
        compute, stream = (by_mode[mode].tokens_per_s for mode in ("compute", "stream"))
        ratio = compute / stream
        table.append(
            Row(
                f"{layers} layers in RAM: computing there against visiting the GPU",
                f"{compute:.1f} against {stream:.1f} tokens/s, {ratio:.1f} x",
                f">= {GOAL:.0f} x",
                ratio >= GOAL,
            )
        )
    table += [
        Row(
            f"{one.layers} layers in RAM, {one.mode}: expected tokens/s",
            f"{one.expected_tokens_per_s:.1f}, measured {one.tokens_per_s:.1f}; "
            f"first token {one.expected_first_s:.2f} s, measured {one.first_s:.2f} s",
            f"within {SPEED_SHARE:.0%}",
            one.met,
        )
        for one in found
    ]
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", nargs="+", type=int, default=list(LAYERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=7.5)
    parser.add_argument("--folder", type=Path, help="where the checkpoint is written for the time (15 GB)")
    options = parser.parse_args(argv)
    machine = detect(options.folder or Path.cwd())
    if not any(gpu.compute_capability for gpu in machine.gpus):
        print(NO_GPU)
        return 2
    end = time.monotonic() + options.minutes * 60
    found: list[Found] = []
    with tempfile.TemporaryDirectory(prefix="snug-gpu-", dir=options.folder) as folder:
        measured = calibrate.measure_apart(machine)
        machine = calibrate.apply(machine, measured)
        model = identify(write_checkpoint(config_of(NAME), "bfloat16", Path(folder) / NAME))
        for layers in options.layers:
            if time.monotonic() + _CASE_S > end:
                print(f"no time for {layers} layers")
                continue
            found += measure(model, machine, layers, options.rounds)
    details = {
        "gpu": machine.gpus[0].name,
        "calibration": asdict(measured),
        "cases": [asdict(one) for one in found],
    }
    publish("gpu_speed", rows(found), details)
    return 0


if __name__ == "__main__":
    sys.exit(main())
