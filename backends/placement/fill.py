"""Fills devices one after the other, each with as many layers as its budget really holds."""

from __future__ import annotations

from dataclasses import dataclass, replace

from backends.models.types import Module, ModuleKind
from backends.placement import split
from backends.placement.case import (
    CPU,
    DISK,
    Case,
    Layout,
    executing_share,
    is_quantized,
    load_transient,
    placed_bytes,
)
from backends.placement.estimate import Load
from backends.placement.precision import Precision
from backends.placement.types import CpuLayersMode

# How often the number of layers that visit the first device is corrected; it settles after two to four.
_ROUNDS = 12


@dataclass(frozen=True, slots=True)
class _Line:
    """The devices in the order they are filled; `head` is where norm and head go.

    `away` is how many layers rest elsewhere and are expected to run on the first device: those on the disk,
    and streamed ones in RAM.
    """

    case: Case
    precision: Precision
    slots: tuple[str, ...]
    mode: CpuLayersMode | None
    head: int
    gpu_layers: int | None
    away: int

    @property
    def has_gpu(self) -> bool:
        return self.slots[0].startswith("cuda:")

    @property
    def last_gpu(self) -> int:
        return max(slot for slot, device in enumerate(self.slots) if device.startswith("cuda:"))


def filled(
    case: Case,
    precision: Precision,
    slots: tuple[str, ...],
    mode: CpuLayersMode | None = None,
    gpu_layers: int | None = None,
) -> Layout:
    """Lay `case`'s model over `slots`; the last slot takes what the others don't hold.

    `gpu_layers`, where given, is exactly how many layers lie on GPUs, whether they fit or not.
    """
    model = case.model
    # Norm and head follow the layers; beside RAM they go there, never to the disk. Streamed, they stay put.
    head = len(slots) - 1
    if mode == "stream":
        head = sum(device.startswith("cuda:") for device in slots) - 1
    elif CPU in slots:
        head = slots.index(CPU)
    counts = _settled(_Line(case, precision, slots, mode, head, gpu_layers, away=0))
    places = split.counts_to_slots(model.modules, counts, head=head, tied=model.text.tied_embeddings)
    return Layout(precision, tuple(slots[place] for place in places), mode)


def can_start(case: Case, precision: Precision, slots: tuple[str, ...], mode: CpuLayersMode | None) -> bool:
    """Whether the first slot holds at least what stands before the layers."""
    line = _Line(case, precision, slots, mode, head=len(slots), gpu_layers=None, away=0)
    return _holds(line, 0, around(case, precision, slots[0], first=True, last=False), 0)


def around(case: Case, precision: Precision, device: str, *, first: bool, last: bool) -> Load:
    """What a device holds besides layers, if it is the first or the last of a run."""
    has_gpu = device.startswith("cuda:")
    load = Load()
    for module in case.model.modules:
        if module.kind is not ModuleKind.LAYER and (last if _at_end(case, module) else first):
            load.add(
                module, placed_bytes(module, device, precision, has_gpu=has_gpu), precision, quantized=False
            )
    return load


def largest_layer(case: Case, precision: Precision) -> int:
    """Bytes of the largest decoder layer at full width."""
    return (
        max(
            (module.parameters for module in case.model.modules if module.kind is ModuleKind.LAYER), default=0
        )
        * precision.width
    )


def _at_end(case: Case, module: Module) -> bool:
    tied = case.model.text.tied_embeddings
    return module.kind is ModuleKind.NORM or (module.kind is ModuleKind.HEAD and not tied)


def _settled(line: _Line) -> list[int]:
    """Layers per slot, with as few visitors as possible.

    The more layers visit, the less room is left for those that stay, so that more visit. Counting up from
    no visitor arrives at the smallest number that agrees with itself.
    """
    for _ in range(_ROUNDS):
        counts = _counts(line)
        away = _visitors(line, counts)
        if away == line.away:
            return counts
        line = replace(line, away=away)
    return _counts(replace(line, away=line.case.model.layers))


def _visitors(line: _Line, counts: list[int]) -> int:
    """Layers that rest where they can't run."""
    resting = zip(line.slots, counts, strict=True)
    streams = line.mode == "stream"
    return sum(count for device, count in resting if device == DISK or (streams and device == CPU))


def _counts(line: _Line) -> list[int]:
    """Layers per slot."""
    layers = _layers(line)
    counts = [0] * len(line.slots)
    placed = 0
    for slot, device in enumerate(line.slots[:-1]):
        on_gpu = device.startswith("cuda:")
        exact = line.gpu_layers if on_gpu else None
        load = around(line.case, line.precision, device, first=slot == 0, last=slot == line.head)
        if _runs_visitors(line, slot):
            load.visiting = largest_layer(line.case, line.precision)
        while placed < len(layers) and (exact is None or placed < exact):
            trial = load.copy()
            nbytes = placed_bytes(layers[placed], device, line.precision, has_gpu=line.has_gpu)
            quantized = is_quantized(device, line.precision, has_gpu=line.has_gpu)
            trial.add(layers[placed], nbytes, line.precision, quantized=quantized)
            forced = exact is not None and slot == line.last_gpu
            if not forced and not _holds(line, slot, trial, counts[slot] + 1):
                break
            load = trial
            counts[slot] += 1
            placed += 1
    counts[-1] += len(layers) - placed
    return counts


def _layers(line: _Line) -> list[Module]:
    return [module for module in line.case.model.modules if module.kind is ModuleKind.LAYER]


def _runs_visitors(line: _Line, slot: int) -> bool:
    """Whether layers that rest elsewhere are executed on this slot."""
    return slot == 0 and line.away > 0


def _holds(line: _Line, slot: int, load: Load, here: int) -> bool:
    """Whether the slot still fits with `here` layers resting on it."""
    trial = load.copy()
    device = line.slots[slot]
    trial.layers = _executed(line, slot, here)
    if trial.layers == 0:
        trial.caches = {}
    elif _runs_visitors(line, slot):
        for module in _layers(line)[-line.away :]:  # those that rest elsewhere are the last
            trial.keep(module)
    share = executing_share(line.case, device, trial, line.precision, with_gpu=line.has_gpu)
    if share.total_bytes > share.budget_bytes:
        return False
    if device != CPU:
        return True
    transient = load_transient(line.case.model, line.precision)
    return share.overhead_bytes + share.weights_bytes + transient <= share.budget_bytes


def _executed(line: _Line, slot: int, here: int) -> int:
    """How many layers run on this slot: its own, and on the first those that visit."""
    if line.mode == "stream" and line.slots[slot] == CPU:
        return 0
    return here + line.away if slot == 0 else here
