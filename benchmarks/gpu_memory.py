"""Never out of memory, and nothing wasted: 7B-shaped models on cards of 6 to 24 GB, predicted and measured.

Runs on a machine with an NVIDIA card. Smaller cards are emulated: the planner is told of a card of that
size, and torch's allocator gets a hard limit of what it says may be used. Every case loads the model as
the engine does, reads a prompt with a picture that fills the context, and writes a few tokens; then
accelerate's `device_map="auto"` does the same. Needs torch, transformers (>= 5.10), accelerate,
bitsandbytes, psutil and nvidia-ml-py. One process a model; a case that time does not allow is left out.

    python -m benchmarks.gpu_memory [--models NAME ...] [--cards GB ...] [--minutes 7.5] [--folder FOLDER]

Exit codes: 0, or 2 without an NVIDIA GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from backends.hardware.detect import detect
from backends.hardware.types import Gpu, HardwareSnapshot
from backends.models.identify import identify
from backends.models.types import ModelInfo
from backends.placement.planner import plan
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from benchmarks.gpu_models import KINDS, MODELS
from benchmarks.report import Row, publish

GIB, MIB = 1024**3, 1024**2
CARDS = (8, 12, 24, 6, 16)
PRESETS = (Preset.LOW, Preset.MID, Preset.HIGH, Preset.AUTO)
# What a desktop and the driver hold of a card.
DESKTOP_BYTES = 300 * MIB
PEAK_SHARE, PEAK_BYTES = 0.05, 300e6
NO_GPU = "no NVIDIA GPU: this benchmark needs one"
# How many layers more are tried, and how long the slowest case takes.
MOST_MORE, CASE_S = 3, 25.0


@dataclass(frozen=True, slots=True)
class Found:
    """One case. Bytes are the GPU's; `measured` is context and tensors, `reserved` what torch held for them.

    `left` is how many layers more would have fitted (None: not tried).
    """

    model: str
    card: int
    way: str
    precision: str
    gpu_layers: int
    layers: int
    mode: str | None
    side: int
    predicted: int
    measured: int
    reserved: int
    out_of_memory: bool
    left: int | None = None
    token_s: float | None = None

    @property
    def met(self) -> bool:
        """Whether the prediction is within the goal."""
        return abs(self.predicted - self.measured) <= max(PEAK_SHARE * self.measured, PEAK_BYTES)


def emulated(machine: HardwareSnapshot, gib: int) -> HardwareSnapshot:
    """`machine` with its first GPU as a card of `gib`, of which a desktop holds a little."""
    total = gib * GIB
    card = replace(
        machine.gpus[0],
        name=f"{gib} GB of {machine.gpus[0].name}",
        total_bytes=total,
        free_bytes=total - DESKTOP_BYTES,
        processes=(),
        nvlink_peers=(),
        utilization=0,
    )
    return replace(machine, gpus=(card,))


def usable(card: Gpu, context_bytes: int) -> int:
    """What torch's allocator may take of an emulated card: the context counts as well."""
    return card.free_bytes - context_bytes


def plan_for(
    model: ModelInfo, machine: HardwareSnapshot, preset: Preset, offload: Path, layers: int | None = None
) -> Plan:
    """The planner's plan with one picture."""
    overrides = Overrides(context_tokens=KINDS[model.path.name].context, images=1, gpu_layers=layers)
    return plan(machine, model, PlanRequest(str(model.path), preset, overrides), offload_root=str(offload))


def cases(cards: Sequence[int]) -> Iterator[tuple[int, Preset | None]]:
    """(card, preset), None for `device_map="auto"`; what matters most first."""
    for preset in (*PRESETS[:2], None, *PRESETS[2:]):
        for card in cards:
            yield card, preset


def predicted_bytes(found: Plan) -> int:
    """What the plan says of the first GPU."""
    return next(share.total_bytes for share in found.devices if share.device.startswith("cuda:"))


class Child:
    """Runs the cases of one model in this process, which has the GPU to itself."""

    def __init__(self, name: str, folder: Path, cards: Sequence[int], end: float) -> None:
        from benchmarks.gpu_models import config_of, write_checkpoint

        self._kind, self._cards, self._end = KINDS[name], cards, end
        self._offload = folder / "offload"
        self._machine = detect(folder)
        path = write_checkpoint(config_of(name), self._kind.dtype, folder / name)
        self._model = identify(path)
        self._context = context_bytes()

    def run(self) -> None:
        """Print one JSON line a result."""
        seen: set[tuple[object, ...]] = set()
        for card, preset in cases(self._cards):
            if time.monotonic() + CASE_S > self._end:
                print(json.dumps({"skipped": f"{self._kind.name} {card} GB {preset or 'auto map'}"}))
                continue
            found = list(self._auto_map(card) if preset is None else self._preset(card, preset, seen))
            for one in found:
                print(json.dumps(asdict(one)), flush=True)

    def _preset(self, card: int, preset: Preset, seen: set[tuple[object, ...]]) -> Iterator[Found]:
        machine = emulated(self._machine, card)
        decided = plan_for(self._model, machine, preset, self._offload)
        key = (card, decided.precision, decided.device_map, decided.cpu_layers_mode)
        if decided.verdict == "no" or not decided.visible_gpus or key in seen:
            return
        seen.add(key)
        for one in self._try(card, str(preset), decided, self._kind.sides):
            mixed = 0 < decided.gpu_layers < decided.layers
            left = self._left(card, preset, decided) if mixed and not one.out_of_memory else None
            yield replace(one, left=left)

    def _left(self, card: int, preset: Preset, decided: Plan) -> int | None:
        """How many layers more really fit: the largest of them that runs."""
        machine = emulated(self._machine, card)
        for more in range(1, MOST_MORE + 1):
            layers = decided.gpu_layers + more
            if layers > decided.layers or time.monotonic() + CASE_S > self._end:
                return more - 1
            fuller = plan_for(self._model, machine, preset, self._offload, layers)
            if any(one.out_of_memory for one in self._try(card, "more", fuller, self._kind.sides[-1:])):
                return more - 1
        return MOST_MORE

    def _try(self, card: int, way: str, decided: Plan, sides: Sequence[int]) -> list[Found]:
        from benchmarks import gpu_run

        share = Found(
            self._kind.name, card, way, decided.precision, decided.gpu_layers, decided.layers,
            decided.cpu_layers_mode, 0, predicted_bytes(decided), 0, 0, out_of_memory=False,
        )  # fmt: skip
        limit = usable(emulated(self._machine, card).gpus[0], self._context)
        with gpu_run.limited(limit):
            return self._measured(share, gpu_run.loaded(decided), decided, sides)

    def _auto_map(self, card: int) -> Iterator[Found]:
        from benchmarks import gpu_run

        machine = emulated(self._machine, card)
        limit = usable(machine.gpus[0], self._context)
        share = Found(
            self._kind.name, card, 'device_map="auto"', self._kind.dtype, 0, self._model.layers, None, 0,
            limit, 0, 0, out_of_memory=False,
        )  # fmt: skip
        ram = machine.ram.available_bytes - 4 * GIB
        way = gpu_run.loaded_by_auto(self._model.path, self._kind.dtype, limit, ram, self._offload)
        with gpu_run.limited(limit):
            yield from self._measured(share, way, None, self._kind.sides[-1:])

    def _measured(self, share: Found, way: Any, decided: Plan | None, sides: Sequence[int]) -> list[Found]:  # noqa: ANN401
        """Run each picture; the last result holds the highest peak of all."""
        import torch

        from benchmarks import gpu_run

        found: list[Found] = []
        context = decided.context_tokens if decided else (self._kind.context or 4096)
        tokens = decided.image_tokens if decided else 1280
        side = sides[0]
        try:
            with way as model:
                layers = gpu_run.layers_on_gpu(model)
                for side in sides:
                    timed = gpu_run.run(
                        model, self._kind, decided, context=context, side=side, image_tokens=tokens
                    )
                    found = [self._with_peak(replace(share, gpu_layers=layers, token_s=timed.token_s), side)]
        except torch.cuda.OutOfMemoryError:
            return [replace(self._with_peak(share, side), out_of_memory=True)]
        finally:
            model = None
        return found

    def _with_peak(self, share: Found, side: int) -> Found:
        from benchmarks import gpu_run

        seen = gpu_run.peak()
        return replace(
            share,
            side=side,
            measured=seen.allocated + self._context,
            reserved=seen.reserved + self._context,
        )


def context_bytes() -> int:
    """What this process takes of the GPU before any tensor: CUDA's context, kernels and libraries.

    The driver's figure before and after a first small product; nobody else may start there meanwhile.
    """
    import pynvml
    import torch

    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        before = int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
        square = torch.ones(64, 64, device="cuda", dtype=torch.float16)
        torch.cuda.synchronize()
        _ = (square @ square).sum().item()
        used = int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
        return max(0, used - before - torch.cuda.memory_reserved(0))
    finally:
        pynvml.nvmlShutdown()


def rows(found: Sequence[Found], skipped: int) -> list[Row]:
    """The table."""
    ours = [one for one in found if one.way != 'device_map="auto"']
    auto = [one for one in found if one.way == 'device_map="auto"']
    ran = [one for one in ours if not one.out_of_memory]
    within = sum(one.met for one in ran)
    failed = sum(one.out_of_memory for one in ours)
    left = [one.left for one in ours if one.left is not None]
    table = [
        Row("GPU peak predicted within 5 % or 300 MB", f"{within} of {len(ran)}", "all", within == len(ran)),
        Row("out of memory", f"{failed} of {len(ours)}", "0", failed == 0),
        Row(
            "layers left on the table, at most", str(max(left, default=0)), "<= 1", max(left, default=0) <= 1
        ),
        Row('device_map="auto": out of memory', f"{sum(one.out_of_memory for one in auto)} of {len(auto)}"),
    ]
    table += [
        Row(
            f"{one.model}, {one.card} GB, {one.way}: {one.precision}, "
            f"{one.gpu_layers} of {one.layers} layers{f', {one.mode}' if one.mode else ''}",
            "out of memory"
            if one.out_of_memory
            else f"predicted {one.predicted / 1e9:.2f} GB, measured {one.measured / 1e9:.2f} GB",
        )
        for one in found
    ]
    if skipped:
        table.append(Row("cases that time did not allow", str(skipped)))
    return table


def run_child(name: str, cards: Sequence[int], folder: Path, end: float) -> tuple[list[Found], list[str]]:
    """Run one model's cases in a process of its own; what it prints before a crash counts."""
    left = str(end - time.monotonic())
    command = [sys.executable, "-m", "benchmarks.gpu_memory", "--child", name, "--folder", str(folder)]
    command += ["--seconds", left, "--cards", *(str(card) for card in cards)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    documents = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode:
        print(f"{name}: its process ended with {done.returncode}", file=sys.stderr)
    results = [Found(**document) for document in documents if "skipped" not in document]
    return results, [document["skipped"] for document in documents if "skipped" in document]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--cards", nargs="+", type=int, default=list(CARDS))
    parser.add_argument("--minutes", type=float, default=7.5)
    parser.add_argument("--folder", type=Path, help="where checkpoints are written for the time (17 GB)")
    parser.add_argument("--child", choices=MODELS, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=0.0, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    machine = detect(options.folder or Path.cwd())
    if not any(gpu.compute_capability for gpu in machine.gpus):
        print(NO_GPU)
        return 2
    if options.child:
        Child(options.child, options.folder, options.cards, time.monotonic() + options.seconds).run()
        return 0
    begun = time.monotonic()
    found: list[Found] = []
    skipped: list[str] = []
    for position, name in enumerate(options.models):
        left = begun + options.minutes * 60 - time.monotonic()
        share = time.monotonic() + left / (len(options.models) - position)
        with tempfile.TemporaryDirectory(prefix="snug-gpu-", dir=options.folder) as folder:
            results, missed = run_child(name, options.cards, Path(folder), share)
        found += results
        skipped += missed
    details = {"gpu": machine.gpus[0].name, "skipped": skipped, "cases": [asdict(one) for one in found]}
    publish("gpu_memory", rows(found, len(skipped)), details)
    return 0


if __name__ == "__main__":
    sys.exit(main())
