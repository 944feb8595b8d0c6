"""A loaded model's tensors in their places: taken over from the load, moved later, put back on failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event as Flag
from types import MappingProxyType
from typing import Any

import torch
from accelerate.hooks import remove_hook_from_submodules
from safetensors.torch import save_file
from torch.utils.hooks import RemovableHandle

from backends.engines.base import ProgressSink
from backends.engines.offload import OffloadFolder
from backends.engines.placing import DISK, NoRoom, Unit, covers, first_device, needs_hooks
from backends.engines.reading import Reader
from backends.engines.tensors import (
    Slot,
    Stored,
    identity,
    module_of,
    own,
    read_stored,
    relocate,
    slots_of,
    taken_over,
    without_values,
)
from backends.engines.visits import attach
from backends.errors import Cancelled
from backends.messages import Progress
from backends.placement.moving import Move, Stuck, ordered

Free = Callable[[str], int]
_NOTHING: Mapping[str, Stored] = MappingProxyType({})


class Arrangement:
    """Which tensor rests where, and the hooks that let the model run like that.

    Made right after loading; the hooks that transformers left on the model make way for ours. `stored` tells
    where tensors lie in files that transformers knows nothing of.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: Any,
        placed: Sequence[Unit],
        folder: OffloadFolder | None,
        stored: Mapping[str, Stored] = _NOTHING,
    ) -> None:
        self._model = model
        self._stored: dict[str, Stored] = taken_over(model) | dict(stored)
        remove_hook_from_submodules(model)
        self._folder = folder
        self._placed: tuple[Unit, ...] = ()
        self._handles: list[RemovableHandle] = []
        self._reader = Reader()
        self.settled = 0  # how often tensors took places, old ones after a failure as well
        self.broken = False  # a rearrangement failed, and so did the way back
        placed = tuple(placed)
        self._carry_out(placed, self._moves(placed), lambda _: None, Flag())
        self._settle(placed)

    @property
    def placed(self) -> tuple[Unit, ...]:
        """What rests and runs where now."""
        return self._placed

    @torch.no_grad()
    def rearrange(
        self,
        placed: Sequence[Unit],
        folder: OffloadFolder | None,
        free: Free,
        progress: ProgressSink,
        cancel: Flag,
    ) -> None:
        """Bring every tensor to its place in `placed`; `free` tells the free bytes of a device.

        Raises NoRoom or DiskFull before anything is moved, Cancelled and whatever a device
        or disk raises in between. After any of them everything is back where it was.
        """
        placed = tuple(placed)
        before, folder_before = self._placed, self._folder
        moves = self._checked(placed, folder, free)
        self._detach()
        self._folder = folder or folder_before
        try:
            self._carry_out(placed, moves, progress, cancel)
            self._settle(placed)
        except BaseException:
            # What left a device left its room there, so the way back is open.
            self.broken = True
            back = self._moves(before)
            order = ordered(back, {device: free(device) for device in _devices(back)})
            self._carry_out(before, back if isinstance(order, Stuck) else order, lambda _: None, Flag())
            self._folder = folder_before
            self._settle(before)
            self.broken = False
            raise
        self._forget_written()
        self._folder = folder

    def _checked(
        self, placed: tuple[Unit, ...], folder: OffloadFolder | None, free: Free
    ) -> tuple[Move, ...]:
        """The moves to `placed`, in an order that fits."""
        moves = self._moves(placed)
        order = ordered(moves, {device: free(device) for device in _devices(moves)})
        if isinstance(order, Stuck):
            raise NoRoom(order)
        if folder is not None:
            folder.check(self._to_write(placed, moves))
        return order

    def _moves(self, placed: tuple[Unit, ...]) -> tuple[Move, ...]:
        sums: dict[tuple[str, str, str], int] = {}
        for unit, slot in self._owned(placed):
            target = _rest(slot, unit)
            if slot.place != target:
                key = (unit.name, slot.place, target)
                sums[key] = sums.get(key, 0) + slot.nbytes
        return tuple(Move(*key, total) for key, total in sums.items())

    def _to_write(self, placed: tuple[Unit, ...], moves: Sequence[Move]) -> int:
        """Bytes that go to the disk and are not in a file already."""
        going = {move.name for move in moves if move.target == DISK}
        return sum(
            slot.nbytes
            for unit, slot in self._owned(placed)
            if unit.name in going and slot.place != DISK and slot.name not in self._stored
        )

    def _carry_out(
        self, placed: tuple[Unit, ...], moves: Sequence[Move], progress: ProgressSink, cancel: Flag
    ) -> None:
        total, done = sum(move.nbytes for move in moves), 0
        progress(Progress("move", 0, total))
        ties = self._ties()
        for move in moves:
            if cancel.is_set():
                raise Cancelled
            slots = [
                slot
                for unit, slot in self._owned(placed)
                if (unit.name, slot.place, _rest(slot, unit)) == (move.name, move.source, move.target)
            ]
            if move.target == DISK:
                self._store(move.name, slots)
            else:
                self._bring(slots, move.target)
            for slot in slots:
                for other in ties.get(slot.name, ()):
                    self._share(slot, other)
            done += move.nbytes
            progress(Progress("move", done, total))
        if cancel.is_set():
            raise Cancelled

    def _store(self, name: str, slots: Sequence[Slot]) -> None:
        """Let `slots` rest on the disk; what no file holds yet is written to the offload folder."""
        missing = [slot for slot in slots if slot.name not in self._stored]
        if missing:
            if self._folder is None:
                raise RuntimeError("weights go to the disk and there is no folder for them")
            file = self._folder.file(name)
            save_file({slot.name: slot.read().detach().cpu().contiguous() for slot in missing}, file)
            for slot in missing:
                self._stored[slot.name] = Stored(str(file), slot.name, slot.read().dtype)
        for slot in slots:
            slot.write(without_values(slot.read()))

    def _bring(self, slots: Sequence[Slot], device: str) -> None:
        read = read_stored((slot.name, self._stored[slot.name]) for slot in slots if slot.place == DISK)
        for module in {slot.module: None for slot in slots if slot.quantized}:
            relocate(module, device)
        for slot in slots:
            if not slot.quantized:
                slot.write(own(read.pop(slot.name, slot.read()), device))

    def _share(self, slot: Slot, other: Slot) -> None:
        """Let `other` hold the same tensor as `slot` again."""
        other.write(slot.read())
        if slot.name in self._stored:
            self._stored[other.name] = self._stored[slot.name]

    def _settle(self, placed: tuple[Unit, ...]) -> None:
        """Attach the hooks of `placed`, whose weights are in their places."""
        self._detach()
        self._placed = placed
        self.settled += 1
        self._bring_rest(placed)
        if not needs_hooks(placed):
            return
        owners = {self._key(slot): unit for unit, slot in self._owned(placed)}
        found = []
        for named in placed:
            module = module_of(self._model, named.name)
            if module is None:
                continue
            slots = [slot for slot in slots_of(self._model, named.name) if not slot.buffer]
            # What has only another module's weights (a tied head) runs where they are.
            homes = {owners[self._key(slot)] for slot in slots}
            unit = homes.pop() if len(homes) == 1 else named
            found.append((unit, module, slots if unit.visits else []))
        self._handles = attach(self._model, found, self._stored, self._reader)

    def _bring_rest(self, placed: tuple[Unit, ...]) -> None:
        """Buffers run with their module; tensors that no unit names stand where the inputs arrive."""
        inputs = first_device(placed)
        for slot in slots_of(self._model, ""):
            unit = next((unit for unit in placed if covers(unit.name, slot.name)), None)
            target = unit.runs if unit is not None else inputs
            if (slot.buffer or unit is None) and slot.place not in (DISK, target):
                slot.write(slot.read().to(target))

    def _owned(self, placed: tuple[Unit, ...]) -> Iterator[tuple[Unit, Slot]]:
        """Every weight once, with the first unit that has it; buffers are no matter of size."""
        seen: set[object] = set()
        for unit in placed:
            for slot in slots_of(self._model, unit.name):
                if slot.buffer or (key := self._key(slot)) in seen:
                    continue
                seen.add(key)
                yield unit, slot

    def _key(self, slot: Slot) -> object:
        """Equal for slots that share one tensor."""
        if slot.place == DISK and slot.name in self._stored:
            return self._stored[slot.name]
        return identity(slot.read())

    def _ties(self) -> dict[str, list[Slot]]:
        """By a slot's name the others that share its tensor."""
        groups: dict[object, list[Slot]] = {}
        for slot in slots_of(self._model, ""):
            if not slot.buffer:
                groups.setdefault(self._key(slot), []).append(slot)
        return {
            slot.name: [other for other in group if other is not slot]
            for group in groups.values()
            if len(group) > 1
            for slot in group
        }

    def _forget_written(self) -> None:
        """Remove files of ours that nothing rests in any more."""
        if self._folder is None:
            return
        resting = {slot.name for slot in slots_of(self._model, "") if slot.place == DISK}
        ours = {stored.file for stored in self._stored.values() if self._folder.holds(Path(stored.file))}
        unused = ours - {stored.file for name, stored in self._stored.items() if name in resting}
        self._stored = {name: stored for name, stored in self._stored.items() if stored.file not in unused}
        for file in unused:
            Path(file).unlink(missing_ok=True)

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._reader.forget()


def _devices(moves: Sequence[Move]) -> set[str]:
    return {place for move in moves for place in (move.source, move.target)} - {DISK}


def _rest(slot: Slot, unit: Unit) -> str:
    """Where a tensor rests: single ones, which the model's own code uses, where they are used."""
    return unit.runs if slot.name == unit.name else unit.rests
