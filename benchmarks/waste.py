"""Layers left on the table: the plan's GPU layers beside the most that fit, found by trying every count.

python -m benchmarks.waste [--small]

Every count of layers is laid out anew and judged by the same memory model; the search shares nothing with
the code that fills devices.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from backends.hardware.types import HardwareSnapshot
from backends.models.identify import identify
from backends.models.types import ModelInfo, ModuleKind
from backends.placement.case import Layout, cuda
from backends.placement.evaluate import evaluate
from backends.placement.planner import plan, question
from backends.placement.precision import on_gpus
from backends.placement.types import CpuLayersMode, Overrides, Plan, PlanRequest
from backends.presets import Preset
from benchmarks.report import Row, publish
from tests.support import checkpoints
from tests.support.machines import gpu, machine

PLAN_GOAL_MS = 20.0
PAIRS_GOAL = 200
MODELS: Mapping[str, Callable[[Path], Path]] = {
    "LLaVA-1.5-7B": checkpoints.llava_15_7b,
    "LLaVA-1.6-7B": checkpoints.llava_16_mistral_7b,
    "Qwen2.5-VL-7B": checkpoints.qwen25_vl_7b,
    "CogVLM-17B": checkpoints.cogvlm_17b,
    "ChatGLM3-6B": checkpoints.chatglm3_6b,
    "text, 14 B": lambda folder: checkpoints.llama(folder, layers=66),
    "starter": checkpoints.starter_like,
}
_CARDS = (3, 4, 5, 6, 8, 10, 11, 12, 14, 16, 20, 24, 32, 48)
_PAIRS = ((6, 4), (8, 6), (11, 11), (12, 8))


@dataclass(frozen=True, slots=True)
class Found:
    """One pair under one preset: layers that the plan has on GPUs, the most that fit, and its cost."""

    model: str
    machine: str
    preset: Preset
    mode: CpuLayersMode
    planned: int
    most: int
    milliseconds: float


def machines() -> dict[str, HardwareSnapshot]:
    """Cards of 3 to 48 GB, idle and a third taken by a desktop, and some pairs; plenty of RAM."""
    found = {f"{size} GB": machine(gpu(0, total=size), ram=128) for size in _CARDS}
    for size in _CARDS:
        desktop = gpu(0, total=size, free=size * 0.8 - 0.3)
        found[f"{size} GB, a part taken"] = machine(desktop, ram=128, os="windows", commit=256)
    for first, second in _PAIRS:
        found[f"{first} + {second} GB"] = machine(
            gpu(0, total=first, memory_gbps=400.0), gpu(1, total=second, memory_gbps=400.0), ram=128
        )
    return found


def search(
    models: Mapping[str, ModelInfo], hardware: Mapping[str, HardwareSnapshot], presets: tuple[Preset, ...]
) -> Iterator[Found]:
    """Plan and search every pair; the mode of layers in RAM alternates from pair to pair."""
    modes: tuple[CpuLayersMode, ...] = ("compute", "stream")
    pairs = itertools.product(models.items(), hardware.items())
    for number, ((model_name, model), (machine_name, snapshot)) in enumerate(pairs):
        mode = modes[(number + number // len(hardware)) % 2]
        for preset in presets:
            request = PlanRequest("m", preset, Overrides(cpu_layers_mode=mode))
            begun = time.process_time()
            made = plan(snapshot, model, request)
            taken = (time.process_time() - begun) * 1000
            planned = made.gpu_layers if made.verdict != "no" else 0
            most = planned if planned == model.layers else _most(snapshot, model, made, mode)
            yield Found(model_name, machine_name, preset, mode, planned, most, taken)


def _most(hardware: HardwareSnapshot, model: ModelInfo, made: Plan, mode: CpuLayersMode) -> int:
    """The largest number of layers on GPUs for which some contiguous layout fits."""
    case = question(hardware, model, made.request)
    # A preset that holds no layer in its own precision resorts to full precision: then that is searched.
    choice = "int8" if made.request.preset is Preset.MID else "nf4"
    if made.gpu_layers:
        choice = made.precision
    for layers in range(model.layers, 0, -1):
        for layout in _layouts(hardware, model, choice, layers, mode):
            if evaluate(case, layout).fits:
                return layers
    return 0


def _layouts(
    hardware: HardwareSnapshot, model: ModelInfo, choice: str, layers: int, mode: CpuLayersMode
) -> Iterator[Layout]:
    """Every way to lay the first `layers` over the GPUs in either order, the rest in RAM.

    Ways whose weights alone are more than a card has free are left out.
    """
    whole = layers == model.layers
    orders = [hardware.gpus, hardware.gpus[::-1]][: len(hardware.gpus)]
    for order in orders:
        precision = on_gpus(choice, model.dtype, order)
        layer = max(
            precision.module_bytes(part, quantize=True)
            for part in model.modules
            if part.kind is ModuleKind.LAYER
        )
        for first in range(layers, -1, -1) if len(order) == 2 else [layers]:
            if first * layer > order[0].free_bytes or (layers - first) * layer > order[-1].free_bytes:
                continue
            places = [cuda(order[0])] * first + [cuda(order[-1])] * (layers - first)
            ends = {places[-1]} if mode == "stream" else {places[-1], "cpu"} if whole else {"cpu"}
            for end in sorted(ends):
                yield Layout(precision, _devices(model, cuda(order[0]), places, end), mode)


def _devices(model: ModelInfo, first: str, places: list[str], last: str) -> tuple[str, ...]:
    devices: list[str] = []
    layer = 0
    tied = model.text.tied_embeddings
    for module in model.modules:
        if module.kind is ModuleKind.LAYER:
            devices.append(places[layer] if layer < len(places) else "cpu")
            layer += 1
        elif module.kind is ModuleKind.NORM or (module.kind is ModuleKind.HEAD and not tied):
            devices.append(last)
        else:
            devices.append(first)
    return tuple(devices)


def rows(found: list[Found]) -> list[Row]:
    """The figures that the README shows."""
    pairs = len({(one.model, one.machine) for one in found})
    over = sum(one.planned > one.most for one in found)
    under = Counter(max(0, one.most - one.planned) for one in found)
    wasted = sum(count for layers, count in under.items() if layers > 1)
    slowest = max(one.milliseconds for one in found)
    typical = statistics.median(one.milliseconds for one in found)
    return [
        Row(
            "Pairs of model and machine",
            f"{pairs} ({len(found)} plans)",
            f">= {PAIRS_GOAL}",
            pairs >= PAIRS_GOAL,
        ),
        Row("Plans with more layers on GPUs than fit", str(over), "0", over == 0),
        Row("Plans with exactly the most that fit", str(under[0])),
        Row("Plans with one layer fewer", str(under[1])),
        Row("Plans with two or more layers fewer", str(wasted), "0", wasted == 0),
        Row("One plan, slowest", f"{slowest:.1f} ms", f"<= {PLAN_GOAL_MS:.0f} ms", slowest <= PLAN_GOAL_MS),
        Row("One plan, median", f"{typical:.1f} ms"),
    ]


def main() -> None:
    """Search the whole grid and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="every sixth machine, not published")
    small = parser.parse_args().small
    with tempfile.TemporaryDirectory() as temporary:
        models = {
            name: identify(make(Path(temporary) / str(at))) for at, (name, make) in enumerate(MODELS.items())
        }
    chosen = dict(list(machines().items())[:: 6 if small else 1])
    found = list(search(models, chosen, (Preset.MID, Preset.LOW)))
    for one in found:
        if one.planned != one.most:
            print(f"{one.model}, {one.machine}, {one.preset}, {one.mode}: {one.planned} of {one.most}")
    partly = sum(0 < one.planned < models[one.model].layers for one in found)
    details = {"partly on GPUs": partly, "statistic": "processor time"}
    if small:
        print(*rows(found), sep="\n")
    else:
        publish("waste", rows(found), details)


if __name__ == "__main__":
    main()
