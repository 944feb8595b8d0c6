"""The tensors of a model by the place where they rest: in memory, or in a file that can be read back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from backends.engines.located import Place, window
from backends.engines.placing import DISK

# Classes whose weights bitsandbytes stores in fewer bits.
QUANTIZED = frozenset({"Linear8bitLt", "Linear4bit"})


@dataclass(frozen=True, slots=True)
class Slot:
    """One tensor of a model: the attribute `attribute` of `module`; `name` is its path in the model."""

    module: nn.Module
    attribute: str
    name: str
    buffer: bool

    def read(self) -> torch.Tensor:
        """The tensor that is there now (without values, on the device `meta`, while it rests on the disk)."""
        table = self.module._buffers if self.buffer else self.module._parameters  # noqa: SLF001
        found = table[self.attribute]
        if found is None:
            raise KeyError(self.name)
        return found

    def write(self, value: torch.Tensor) -> None:
        """Put `value` in place, as what the slot holds: a parameter or a buffer."""
        if self.buffer:
            self.module._buffers[self.attribute] = value  # noqa: SLF001 - assigning registers it anew, slowly
        elif isinstance(value, nn.Parameter):
            self.module._parameters[self.attribute] = value  # noqa: SLF001
        else:
            self.module._parameters[self.attribute] = nn.Parameter(value, requires_grad=False)  # noqa: SLF001

    @property
    def place(self) -> str:
        """The device's name, or `disk`."""
        device = self.read().device
        return DISK if device.type == "meta" else str(device)

    @property
    def nbytes(self) -> int:
        """Bytes that the tensor takes in memory (also while it rests on the disk)."""
        tensor = self.read()
        return tensor.numel() * tensor.element_size()

    @property
    def quantized(self) -> bool:
        """Whether bitsandbytes keeps figures beside the tensor that must travel with it."""
        return type(self.module).__name__ in QUANTIZED


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the values of a tensor are, and the dtype that they are used in.

    Under `key` in a safetensors file, or at `place` in a file of any format.
    """

    file: str
    key: str
    dtype: torch.dtype
    place: Place | None = None


def slots_of(model: nn.Module, name: str) -> Iterator[Slot]:
    """Every tensor below the module `name` ("" is the whole model); or the one tensor of that name."""
    parent, _, last = name.rpartition(".")
    if name:
        holder = model.get_submodule(parent)
        for table, buffer in ((holder._parameters, False), (holder._buffers, True)):  # noqa: SLF001
            if table.get(last) is not None:
                yield Slot(holder, last, name, buffer)
                return
    for path, module in model.get_submodule(name).named_modules(prefix=name, remove_duplicate=True):
        for table, buffer in ((module._parameters, False), (module._buffers, True)):  # noqa: SLF001
            for attribute, tensor in table.items():
                if tensor is not None:
                    yield Slot(module, attribute, f"{path}.{attribute}" if path else attribute, buffer)


def identity(tensor: torch.Tensor) -> tuple[object, ...]:
    """Equal for slots that share one tensor (tied weights), as far as they lie in memory."""
    if tensor.device.type in ("cpu", "cuda") and type(tensor) in (torch.Tensor, nn.Parameter):
        return (tensor.data_ptr(), tuple(tensor.shape), tensor.dtype) if tensor.numel() else (id(tensor),)
    return (id(tensor),)


def module_of(model: nn.Module, name: str) -> nn.Module | None:
    """The module `name`; None where that is a single tensor."""
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None


def without_values(tensor: torch.Tensor) -> nn.Parameter:
    """A placeholder of the same shape and dtype that holds nothing."""
    return nn.Parameter(torch.empty(tensor.shape, dtype=tensor.dtype, device="meta"), requires_grad=False)


def read_stored(wanted: Iterable[tuple[str, Stored]]) -> dict[str, torch.Tensor]:
    """The values of tensors by their names, each in its dtype, on the CPU.

    A tensor that needs no conversion may be a window into its file: the system reads it page by page and
    takes the pages back whenever it needs them. `own` makes a copy that stays.
    """
    files: dict[str, list[tuple[str, Stored]]] = {}
    found: dict[str, torch.Tensor] = {}
    for name, stored in wanted:
        if stored.place is None:
            files.setdefault(stored.file, []).append((name, stored))
        else:
            found[name] = window(stored.place).to(stored.dtype)
    for file, entries in files.items():
        with safe_open(file, framework="pt", device="cpu") as opened:
            for name, stored in entries:
                found[name] = opened.get_tensor(stored.key).to(stored.dtype)
    return found


def own(tensor: torch.Tensor, device: str) -> torch.Tensor:
    """`tensor` on `device`, in memory of its own."""
    values = tensor.detach()
    moved = values.to(device)
    return moved.clone() if moved is values else moved


def relocate(module: Any, device: str) -> None:
    """Move a layer of bitsandbytes with the figures that it keeps beside its weight."""
    module.to(device)
    state = getattr(module, "state", None)
    if state is not None and state.CB is not None:
        state.CB = module.weight.data  # else the weight would be there twice until the next pass


def taken_over(model: nn.Module) -> dict[str, Stored]:
    """Where transformers left the tensors that it did not load, by their names.

    Read off the hooks that accelerate put on their modules; to be called before those are removed.
    """
    found: dict[str, Stored] = {}
    for module in model.modules():
        for hook in _hooks(getattr(module, "_hf_hook", None)):
            index = getattr(getattr(hook.weights_map, "dataset", hook.weights_map), "index", None) or {}
            for name, entry in index.items():
                found[name] = Stored(
                    entry["safetensors_file"], entry["weight_name"], getattr(torch, entry["dtype"])
                )
    return found


def _hooks(hook: Any) -> Sequence[Any]:
    members = getattr(hook, "hooks", (hook,) if hook is not None else ())
    return [member for member in members if getattr(member, "weights_map", None) is not None]
