"""The hooks that carry inputs to the device of a module, and weights there for one pass where they visit."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from torch.utils.hooks import RemovableHandle

from backends.engines.placing import DISK, Unit
from backends.engines.reading import Extent, Reader, extents
from backends.engines.tensors import Slot, Stored, identity, read_stored, slots_of
from backends.errors import ModelDamaged
from backends.models.geometry import visited_experts
from backends.text import Text

# Weights of a mixture's experts: [experts, out, in].
_EXPERTS_DIM = 3
_EXPERTS = ".experts."
# What files hold, as a rule: weights in float32 were converted while loading, into memory of their own.
_HALVES = (torch.bfloat16, torch.float16)


class Carrier:
    """Moves inputs. What several layers share (masks, positions) is moved once in a pass."""

    def __init__(self) -> None:
        self._moved: dict[tuple[int, torch.device], tuple[torch.Tensor, torch.Tensor]] = {}

    def carry(self, value: Any, device: torch.device, *, shared: bool = False) -> Any:
        """`value` with every tensor in it on `device`; anything else (KV caches above all) stays as it is."""
        if isinstance(value, torch.Tensor):
            return self._tensor(value, device, shared=shared)
        if isinstance(value, list | tuple):
            moved = [self.carry(item, device, shared=shared) for item in value]
            same = all(new is old for new, old in zip(moved, value, strict=True))
            return value if same else _alike(value, moved)
        if type(value) is dict:
            return {key: self.carry(item, device, shared=shared) for key, item in value.items()}
        return value

    def forget(self) -> None:
        """The pass is over."""
        self._moved.clear()

    def _tensor(self, value: torch.Tensor, device: torch.device, *, shared: bool) -> torch.Tensor:
        if value.device == device:
            return value
        if not shared:
            return value.to(device)
        key = (id(value), device)
        if key not in self._moved:
            self._moved[key] = (value, value.to(device))  # keeping the source keeps its id from being reused
        return self._moved[key][1]


def attach(
    model: nn.Module,
    placed: Sequence[tuple[Unit, nn.Module, Sequence[Slot]]],
    stored: Mapping[str, Stored],
    reader: Reader,
) -> list[RemovableHandle]:
    """Make `model` run as placed: (unit, its module, what visits). Returns what removes it again."""
    carrier = Carrier()
    handles = []
    # Before any hook is there: files are looked into, which can fail.
    visits = [_Visit(unit, slots, stored, reader) if slots else None for unit, _, slots in placed]
    reader.expect(_looked_up(model, [slot for visit in visits if visit for slot in visit.mapped]))
    for (unit, module, _), visit in zip(placed, visits, strict=True):
        device = torch.device(unit.runs)
        handles.append(
            module.register_forward_pre_hook(_inputs(carrier, device), with_kwargs=True, prepend=True)
        )
        if visit is not None:
            handles.append(module.register_forward_pre_hook(visit.begin))
            handles.append(module.register_forward_hook(visit.end, always_call=True))
    handles.append(model.register_forward_hook(lambda *_: carrier.forget(), always_call=True))
    mapped = {identity(slot.read()): slot.nbytes for slot in slots_of(model, "") if _may_be_mapped(slot)}
    reader.expect(sum(mapped.values()))
    return handles


class _Visit:
    """Brings a module's weights to the executing device and puts what rests there back."""

    def __init__(
        self, unit: Unit, slots: Sequence[Slot], stored: Mapping[str, Stored], reader: Reader
    ) -> None:
        self._slots = slots
        self._device = unit.runs
        self._reader = reader
        on_disk = {slot.name: slot for slot in slots if slot.place == DISK}
        found = extents((name, stored[name]) for name in on_disk)
        self._read = tuple(extent for extent in found if not _stays(extent, on_disk[extent.name], unit))
        reader.expect(sum(extent.read_bytes for extent in self._read))
        read = {extent.name for extent in self._read}
        self.mapped = [slot for name, slot in on_disk.items() if name not in read]
        self._mapped = [(slot.name, stored[slot.name]) for slot in self.mapped]
        self._files = sorted({stored[name].file for name in on_disk}) or [""]
        self._resting: list[torch.Tensor] = []

    def begin(self, *_: Any) -> None:
        if self._resting:
            return  # called within itself
        self._resting = [slot.read() for slot in self._slots]
        try:
            read = read_stored(self._mapped)
            if self._read:
                read |= self._reader.take(self._read, self._device)
        except (OSError, SafetensorError) as error:
            self._resting = []
            if isinstance(error, OSError) and error.errno == errno.ENOMEM:
                raise
            raise self._lost(error) from error
        for slot, resting in zip(self._slots, self._resting, strict=True):
            slot.write(read.pop(slot.name, resting).detach().to(self._device))

    def _lost(self, error: OSError | SafetensorError) -> ModelDamaged:
        """A file that was there when the model was loaded can't be read any more."""
        named = getattr(error, "filename", None)
        file = Path(named or self._files[0])
        detail = Text.of(
            "engine.file_lost",
            "{file} holds weights that are read for every word, and it can't be read any more ({reason}).",
            file=file.name,
            reason=getattr(error, "strerror", None) or str(error)[:200],
        )
        return ModelDamaged(path=str(file.parent), file=file.name, detail=detail)

    def end(self, *_: Any) -> None:
        for slot, resting in zip(self._slots, self._resting, strict=False):
            slot.write(resting)
        self._resting = []


def _may_be_mapped(slot: Slot) -> bool:
    """Whether a weight in RAM may be a window into its file: the pages look free, and all are needed."""
    if sys.platform == "win32":  # weights are read into memory of their own there
        return False
    return not slot.buffer and slot.place == "cpu" and slot.read().dtype in _HALVES


def _looked_up(model: nn.Module, mapped: Sequence[Slot]) -> int:
    """Bytes that a pass of one token reads of tensors on the disk that are used mapped.

    An embedding's row is next to nothing. Of a mixture's experts each token visits a few: the system has room
    for everything else as long as those of one pass fit beside it, since what is read in every pass is never
    what it has not used for longest.
    """
    config = getattr(model, "config", None)
    visited = visited_experts(config.to_dict()) if config is not None else None
    total = 0
    for slot in mapped:
        shape = slot.read().shape
        if _EXPERTS in f".{slot.name}" and len(shape) == _EXPERTS_DIM:
            total += slot.nbytes * min(visited or shape[0], shape[0]) // max(1, shape[0])
        elif not isinstance(slot.module, nn.Embedding):
            total += slot.nbytes
    return total


def _stays(extent: Extent, slot: Slot, unit: Unit) -> bool:
    """Whether a tensor is best used mapped: a pass needs a few words' rows of it, or a few experts."""
    if unit.runs != "cpu" or extent.kind != extent.dtype:
        return False
    return isinstance(slot.module, nn.Embedding) or len(extent.shape) == _EXPERTS_DIM


def _inputs(carrier: Carrier, device: torch.device) -> Callable[..., tuple[Any, Any]]:
    def hook(_: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        return carrier.carry(args, device), carrier.carry(kwargs, device, shared=True)

    return hook


def _alike(value: Any, items: list[Any]) -> Any:
    """A list or (named) tuple of the same type."""
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
