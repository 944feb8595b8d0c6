"""Checks a hand-written device map against the model and the machine before anything is loaded."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from backends.errors import DeviceMapInvalid
from backends.models.types import ModelInfo, ModuleKind
from backends.placement.foreign_names import translated
from backends.placement.hearsay import put_right
from backends.placement.labels import precision_label
from backends.text import Text, shown_name

_DEVICE = re.compile(r"^(?:cuda:)?([0-9]{1,4})$")


_NONE_LEFT_OUT: Mapping[int, Text] = MappingProxyType({})


def check_device(
    device: str, gpus: Iterable[int], left_out: Mapping[int, Text] = _NONE_LEFT_OUT, *, key: str
) -> str:
    """Return the device's id (`0` and `cuda` mean a GPU).

    Raises DeviceMapInvalid for an absent one, and for one of `left_out`, which says why it may not be used.
    """
    gpus = tuple(gpus)
    if device in ("cpu", "disk"):
        return device
    found = _DEVICE.match("0" if device == "cuda" else device)
    if found and int(found[1]) in gpus:
        return f"cuda:{int(found[1])}"
    have = ", ".join(["cpu", "disk", *(f"cuda:{index}" for index in gpus)])
    module = shown_name(key) or Text("map.whole", "The whole model")
    if found and int(found[1]) in left_out:
        detail = Text.of(
            "map.left_out",
            "{module} is placed on {device}, which may not be used. {why}",
            module=module,
            device=f"cuda:{int(found[1])}",
            why=left_out[int(found[1])],
        )
        remedy = Text.of("map.left_out_remedy", "Use one of {devices}, or allow that GPU.", devices=have)
        raise DeviceMapInvalid(detail=detail, suggestion=remedy)
    raise DeviceMapInvalid(
        detail=Text.of(
            "map.no_device",
            "{module} is placed on {device}, which does not exist here.",
            module=module,
            device=shown_name(device),
        ),
        suggestion=Text.of(
            "map.no_device_remedy",
            "Use one of {devices}. (auto is not a device: leave the map out and Snug decides.)",
            devices=have,
        ),
    )


def resolve(
    model: ModelInfo,
    device_map: Sequence[tuple[str, str]],
    gpus: Iterable[int],
    left_out: Mapping[int, Text] = _NONE_LEFT_OUT,
) -> tuple[str, ...]:
    """Return the device of every module of `model`, in order.

    A key is a module's path or a path above it ("" is everything); the longest key wins. Names that the
    same part has in other families or older versions are translated. Raises DeviceMapInvalid for unknown
    modules, split layers and missing modules.
    """
    gpus = tuple(gpus)
    for key, device in device_map:
        _check_hearsay(key, device)
    placed_keys = [
        (key.strip().rstrip("."), check_device(device, gpus, left_out, key=key)) for key, device in device_map
    ]
    names = [module.name for module in model.modules]
    keys = {translated(key, model.modules): device for key, device in placed_keys}
    if len(keys) != len(device_map):
        raise DeviceMapInvalid(
            detail=Text("map.twice", "The same module is placed twice."),
            suggestion=Text("map.twice_remedy", "Keep one line per module."),
        )
    for key in keys:
        _check_key(key, names)
    devices = [_longest(name, keys) for name in names]
    # Modules without weights of their own (rotary tables, a tied head) may be left out: they follow.
    bare = {module.name for module in model.modules if module.parameters == 0}
    missing = [
        name for name, device in zip(names, devices, strict=True) if device is None and name not in bare
    ]
    if missing:
        listed = ", ".join(missing[:5])
        detail = Text.of("map.forgets", "The map forgets {modules}.", modules=listed)
        if len(missing) > 5:
            detail = Text.of(
                "map.forgets_more",
                "The map forgets {modules} and {count} more.",
                modules=listed,
                count=len(missing) - 5,
            )
        raise DeviceMapInvalid(
            detail=detail,
            suggestion=Text(
                "map.forgets_remedy",
                "Place every module; the key above a module's path places all that is below it.",
            ),
        )
    placed = _follow(model, devices)
    if all(device == "disk" for device in placed):
        raise DeviceMapInvalid(
            detail=Text("map.all_disk", "Everything is on the disk, and something must compute."),
            suggestion=Text("map.all_disk_remedy", "Place at least the embeddings on cpu or a GPU."),
        )
    return placed


def check_no_disk(model: ModelInfo, devices: Sequence[str], precision: str) -> None:
    """Raise DeviceMapInvalid for modules on the disk where the CPU alone computes with quantized weights.

    bitsandbytes quantizes what it finds in memory.
    """
    for module, device in zip(model.modules, devices, strict=True):
        if device == "disk":
            raise DeviceMapInvalid(
                detail=Text.of(
                    "map.quantized_disk",
                    "{module} is placed on the disk, and without a GPU {precision} weights must be in "
                    "memory.",
                    module=module.name,
                    precision=precision_label(precision),
                ),
                suggestion=Text.of(
                    "map.quantized_disk_remedy",
                    "Place {module} on cpu, or set another precision (bf16, fp32).",
                    module=module.name,
                ),
            )


def _check_hearsay(key: str, device: str) -> None:
    advice = put_right(key) or put_right(device)
    if advice is not None:
        raise DeviceMapInvalid(
            detail=advice, suggestion=Text("hearsay.remedy", "Leave that line out of the map.")
        )


def _check_key(key: str, names: Sequence[str]) -> None:
    if key == "" or key in names or any(name.startswith(f"{key}.") for name in names):
        return
    inside = next((name for name in names if key.startswith(f"{name}.")), None)
    if inside is not None:
        raise DeviceMapInvalid(
            detail=Text.of(
                "map.inside",
                "{module} lies inside {whole}, which must stay on one device.",
                module=shown_name(key),
                whole=inside,
            ),
            suggestion=Text.of("map.inside_remedy", "Place {whole} as a whole.", whole=inside),
        )
    parents = {name.rpartition(".")[0] for name in names} - {""}
    near = difflib.get_close_matches(key, [*names, *sorted(parents)], n=3, cutoff=0.4)
    hint = Text.of("map.first_module", "Its modules begin with {name}.", name=names[0])
    if near:
        hint = Text.of("map.nearest", "The nearest names are {names}.", names=", ".join(near))
    raise DeviceMapInvalid(
        detail=Text.of("map.unknown", "The model has no module {module}.", module=shown_name(key)),
        suggestion=hint,
    )


def _longest(name: str, keys: dict[str, str]) -> str | None:
    path = name
    while path:
        if path in keys:
            return keys[path]
        path = path.rpartition(".")[0]
    return keys.get("")


def _follow(model: ModelInfo, devices: Sequence[str | None]) -> tuple[str, ...]:
    """Give modules that have no weights the embedding's device, or the first one that is named."""
    first = next(device for device in devices if device is not None)
    embed = next(
        (
            device
            for module, device in zip(model.modules, devices, strict=True)
            if module.kind is ModuleKind.EMBED and device is not None
        ),
        first,
    )
    return tuple(device if device is not None else embed for device in devices)
