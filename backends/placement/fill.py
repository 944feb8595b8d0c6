"""Fills devices one after the other, each with as many layers as its budget really holds."""

from __future__ import annotations

from collections import Counter
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
    read_bytes,
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
    return _left(line, 0, around(case, precision, slots[0], first=True, last=False), 0) >= 0


def around(case: Case, precision: Precision, device: str, *, first: bool, last: bool) -> Load:
    """What a device holds besides layers, if it is the first or the last of a run."""
    has_gpu = device.startswith("cuda:")
    load = Load()
    for module, count in zip(case.distinct, case.amounts, strict=True):
        if module.kind is not ModuleKind.LAYER and (last if _at_end(case, module) else first):
            nbytes = placed_bytes(module, device, precision, has_gpu=has_gpu)
            load.add(module, nbytes, precision, quantized=False, count=count)
    return load


def largest_layer(case: Case, precision: Precision) -> int:
    """Bytes of the largest decoder layer at full width."""
    return (
        max((module.parameters for module in case.distinct if module.kind is ModuleKind.LAYER), default=0)
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
    layers = line.case.layer_places
    counts = [0] * len(line.slots)
    placed = 0
    for slot, device in enumerate(line.slots[:-1]):
        on_gpu = device.startswith("cuda:")
        exact = line.gpu_layers if on_gpu else None
        load = around(line.case, line.precision, device, first=slot == 0, last=slot == line.head)
        if _runs_visitors(line, slot):
            load.visiting = largest_layer(line.case, line.precision)
        if device == CPU and line.away and DISK in line.slots:
            load.reading = max(
                read_bytes(line.case, module, line.precision, with_gpu=line.has_gpu)
                for module in line.case.distinct
                if module.kind is ModuleKind.LAYER
            )
        following = layers[placed:exact]
        forced = exact is not None and slot == line.last_gpu
        counts[slot] = len(following) if forced else _most(line, slot, load, following)
        placed += counts[slot]
    counts[-1] += len(layers) - placed
    return counts


def _most(line: _Line, slot: int, load: Load, following: tuple[int, ...]) -> int:
    """How many of the `following` layers, in order, the slot holds beside `load`.

    What is left shrinks with every layer, nearly in a line: a few looks along it find where it ends.
    """
    low, high = 0, len(following)
    if high == 0:
        return 0
    room_high = _left(line, slot, _with_layers(line, slot, load, following), high)
    if room_high >= 0:
        return high
    room_low = _left(line, slot, _with_layers(line, slot, load, following[:1]), 1)
    if room_low < 0:
        return 0
    low = 1
    while high - low > 1:
        guess = low + room_low * (high - low) // (room_low - room_high)
        middle = min(max(guess, low + 1), high - 1)
        room = _left(line, slot, _with_layers(line, slot, load, following[:middle]), middle)
        if room >= 0:
            low, room_low = middle, room
        else:
            high, room_high = middle, room
    return low


def _with_layers(line: _Line, slot: int, load: Load, places: tuple[int, ...]) -> Load:
    """`load` and these layers."""
    trial = load.copy()
    quantized = is_quantized(line.slots[slot], line.precision, has_gpu=line.has_gpu)
    alike = {places[0]: len(places)} if line.case.one_kind_of_layer else Counter(places)
    for place, count in alike.items():
        layer = line.case.distinct[place]
        nbytes = placed_bytes(layer, line.slots[slot], line.precision, has_gpu=line.has_gpu)
        trial.add(layer, nbytes, line.precision, quantized=quantized, count=count)
    return trial


def _runs_visitors(line: _Line, slot: int) -> bool:
    """Whether layers that rest elsewhere are executed on this slot."""
    return slot == 0 and line.away > 0


def _left(line: _Line, slot: int, load: Load, here: int) -> int:
    """Bytes that are left on the slot with `here` layers resting on it; below zero, it does not hold them.

    `load` is finished here: what visits is added to it.
    """
    device = line.slots[slot]
    load.layers = _executed(line, slot, here)
    if load.layers == 0:
        load.caches = {}
    elif _runs_visitors(line, slot):
        last = line.case.layer_places[-line.away :]  # those that rest elsewhere are the last
        away = {last[0]: len(last)} if line.case.one_kind_of_layer else Counter(last)
        for place, count in away.items():
            load.keep(line.case.distinct[place], count)
    share = executing_share(line.case, device, load, line.precision, with_gpu=line.has_gpu)
    left = share.budget_bytes - share.total_bytes
    if device != CPU:
        return left
    transient = load_transient(line.case, line.precision)
    return min(left, share.budget_bytes - share.overhead_bytes - share.weights_bytes - transient)


def _executed(line: _Line, slot: int, here: int) -> int:
    """How many layers run on this slot: its own, and on the first those that visit."""
    if line.mode == "stream" and line.slots[slot] == CPU:
        return 0
    return here + line.away if slot == 0 else here
