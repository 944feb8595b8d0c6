"""Whether a loaded model can be rearranged to another plan, or has to be loaded from its files. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from backends.hardware.types import HardwareSnapshot
from backends.models.types import ModelInfo
from backends.placement import budget
from backends.placement.case import CPU, DISK, cuda, placed_bytes
from backends.placement.precision import Precision
from backends.placement.types import Plan
from backends.presets import Preset
from backends.text import Text

# Moving needs a little room beside what is moved.
RAM_MARGIN_BYTES = 512 << 20
GPU_MARGIN_BYTES = 64 << 20
_QUANTIZED = ("int8", "nf4")


@dataclass(frozen=True, slots=True)
class Move:
    """`nbytes` of the unit `name` that go from one place to another."""

    name: str
    source: str
    target: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class Stuck:
    """A rearrangement that memory does not allow: `target` lacks `needed_bytes - free_bytes`."""

    target: str
    needed_bytes: int
    free_bytes: int


def ordered(moves: Sequence[Move], free: Mapping[str, int]) -> tuple[Move, ...] | Stuck:
    """`moves` in an order in which every target has room when its turn comes, or what is in the way.

    What leaves a device makes room there for what comes later. `free` is bytes per device; a device that it
    does not name has room for everything.
    """
    room = dict(free)
    waiting = sorted(moves, key=lambda move: move.target != DISK)
    done: list[Move] = []
    while waiting:
        fitting = next((move for move in waiting if move.nbytes <= room.get(move.target, move.nbytes)), None)
        if fitting is None:
            target = waiting[0].target
            needed = sum(move.nbytes for move in waiting if move.target == target)
            return Stuck(target, needed, max(0, room[target]))
        waiting.remove(fitting)
        done.append(fitting)
        if fitting.target in room:
            room[fitting.target] -= fitting.nbytes
        if fitting.source in room:
            room[fitting.source] += fitting.nbytes
    return tuple(done)


def why_reload(old: Plan, new: Plan) -> Text | None:
    """Why the model that was loaded by `old` can't be moved to `new` in memory; None when it can.

    Room is not looked at: `why_no_room` does, and the engine once more when it is tried.
    """
    return next(_obstacles(old, new), None)


def _obstacles(old: Plan, new: Plan) -> Iterator[Text]:
    if (old.model_path, old.engine) != (new.model_path, new.engine):
        yield Text("move.other_model", "The new plan is for another model or another engine.")
    if old.companions != new.companions:
        yield Text(
            "move.companions",
            "It is to be read with another base, vision tower, tokenizer or conversation format.",
        )
    if new.engine == "llamacpp":
        yield Text("move.gguf", "llama.cpp places a model while it reads its file.")
    if (old.precision, old.compute_dtype) != (new.precision, new.compute_dtype):
        yield Text.of(
            "move.precision",
            "Its weights are loaded as {old}; {new} has to be made from the files.",
            old=old.precision,
            new=new.precision,
        )
    if old.visible_gpus and new.request.preset is Preset.CPU:
        yield Text(
            "move.cpu_only",
            "CPU only leaves the GPU to others altogether, and that takes a process that never touched it.",
        )
    for _, device in new.device_map:
        if device.startswith("cuda:") and int(device.removeprefix("cuda:")) not in old.visible_gpus:
            yield Text.of(
                "move.hidden_gpu",
                "{device} is hidden from the process that holds the model.",
                device=device,
            )
    if old.offload_dir and new.offload_dir and old.offload_dir != new.offload_dir:
        yield Text("move.offload_dir", "What rests on the disk would have to go to another folder.")
    changed = _changed_width(old, new) if new.precision in _QUANTIZED else None
    if changed is not None:
        yield Text.of(
            "move.width",
            "{module} is kept in another precision there; it has to be made from the files.",
            module=changed,
        )


def why_no_room(old: Plan, new: Plan, model: ModelInfo, free: Mapping[str, int]) -> Text | None:
    """Which device lacks room for what comes while it still holds what goes; None when there is enough.

    `free` is what `room` tells. None as well for a map that names other modules than `model` has: then only
    the engine knows.
    """
    was, will = dict(old.device_map), dict(new.device_map)
    names = {module.name for module in model.modules}
    if was.keys() != names or will.keys() != names:
        return None
    precision = Precision(new.precision, new.compute_dtype)
    has_gpu = any(device.startswith("cuda:") for device in will.values())
    moves = []
    for module in model.modules:
        source, target = was[module.name], will[module.name]
        if source != target:
            nbytes = placed_bytes(module, target, precision, has_gpu=has_gpu)
            moves.append(Move(module.name, source, target, nbytes))
    stuck = ordered(moves, free)
    if not isinstance(stuck, Stuck):
        return None
    return Text.of(
        "move.no_room",
        "On the way, {missing:bytes} of {device} would be missing.",
        device=_spoken(stuck.target, new),
        missing=stuck.needed_bytes - stuck.free_bytes,
    )


def room(hardware: HardwareSnapshot) -> dict[str, int]:
    """Bytes that may be moved to each device now, beside everything that it holds."""
    free = {cuda(gpu): gpu.free_bytes - GPU_MARGIN_BYTES for gpu in hardware.gpus}
    free[CPU] = hardware.ram.available_bytes - RAM_MARGIN_BYTES
    free[DISK] = budget.disk_budget(hardware)
    return {device: max(0, nbytes) for device, nbytes in free.items()}


def same_places(old: Plan, new: Plan) -> bool:
    """Whether nothing has to be moved between the two: only limits differ."""
    return (old.device_map, old.cpu_layers_mode) == (new.device_map, new.cpu_layers_mode)


def _spoken(device: str, plan: Plan) -> str | Text:
    """What a person calls `device`."""
    if device == CPU:
        return Text("ladder.ram", "main memory")
    if device == DISK:
        return Text("move.disk", "the disk")
    named = next((share.name for share in plan.devices if share.device == device and share.name), "")
    return f"{named} (GPU {device.removeprefix('cuda:')})" if named else device


def _changed_width(old: Plan, new: Plan) -> str | None:
    """The first decoder layer that bitsandbytes stores in one of the plans only, or would store on the disk.

    Beside a GPU, layers in RAM and on the disk keep full width; without one everything is quantized.
    """
    before, after = dict(old.device_map), dict(new.device_map)
    for name, device in after.items():
        if not name.rpartition(".")[2].isdigit():
            continue  # only numbered layers are quantized
        was, will = _quantized(_device(name, before), before), _quantized(device, after)
        if was != will or (will and device == "disk"):
            return name
    return None


def _quantized(device: str, device_map: Mapping[str, str]) -> bool:
    return device.startswith("cuda:") or not any(place.startswith("cuda:") for place in device_map.values())


def _device(name: str, device_map: Mapping[str, str]) -> str:
    path = name
    while path not in device_map and path:
        path = path.rpartition(".")[0]
    return device_map.get(path, "cpu")
