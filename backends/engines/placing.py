"""Which module rests where and which runs where; no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backends.placement.moving import Stuck
from backends.placement.types import CpuLayersMode

CPU, DISK = "cpu", "disk"


@dataclass(frozen=True, slots=True)
class Unit:
    """A module that is never split. Its weights rest on `rests`; its forward pass runs on `runs`."""

    name: str
    rests: str
    runs: str

    @property
    def visits(self) -> bool:
        """Whether its weights travel to the executing device in every pass."""
        return self.rests != self.runs


class NoRoom(Exception):
    """A rearrangement for which `stuck.target`, as torch numbers it, has no room."""

    def __init__(self, stuck: Stuck) -> None:
        super().__init__(stuck)
        self.stuck = stuck


def is_gpu(device: str) -> bool:
    """Whether `device` is neither RAM nor a disk."""
    return device not in (CPU, DISK)


def units(device_map: Iterable[tuple[str, str]], mode: CpuLayersMode | None) -> tuple[Unit, ...]:
    """What runs where, in the order of `device_map`; the same rule as the memory model's.

    Weights on the disk visit the first GPU, without one the CPU. Weights in RAM beside a GPU visit it in the
    mode "stream" and run on the CPU otherwise.
    """
    placed = tuple(device_map)
    first = next((device for _, device in placed if is_gpu(device)), CPU)
    found = []
    for name, device in placed:
        travels = device == DISK or (device == CPU and mode == "stream")
        found.append(Unit(name, device, first if travels else device))
    return tuple(found)


def first_device(placed: Sequence[Unit]) -> str:
    """Where token ids and pixels belong: the first GPU that runs something, else the CPU."""
    return next((unit.runs for unit in placed if is_gpu(unit.runs)), CPU)


def needs_hooks(placed: Sequence[Unit]) -> bool:
    """Whether anything has to be moved while the model runs."""
    return len({unit.runs for unit in placed}) > 1 or any(unit.visits for unit in placed)


def runs_alike(old: Sequence[Unit], new: Sequence[Unit], names: Iterable[str]) -> bool:
    """Whether every module of `names` gives the same bits before and after.

    That takes the same executing device. The CPU computes on weights where they rest, and its products of
    the same values differ in their last bits by the address: a window into a file starts where the file's
    header lets it, a copy at a multiple of 64. So there the weights must stay, too. GPUs work on copies.
    """
    return all(_way(name, old) == _way(name, new) for name in names)


def _way(name: str, placed: Sequence[Unit]) -> tuple[str, str]:
    """Where the module `name` runs and from where: of the unit with the longest matching path."""
    fitting = [unit for unit in placed if covers(unit.name, name)]
    if not fitting:
        return first_device(placed), first_device(placed)
    unit = max(fitting, key=lambda unit: len(unit.name))
    return unit.runs, unit.runs if is_gpu(unit.runs) else unit.rests


def covers(unit: str, name: str) -> bool:
    """Whether the module or tensor `name` belongs to `unit` ("" is the whole model)."""
    return unit in ("", name) or name.startswith(unit + ".")
