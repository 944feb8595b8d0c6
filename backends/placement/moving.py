"""Whether a loaded model can be rearranged to another plan, or has to be loaded again from its files."""

from __future__ import annotations

from collections.abc import Mapping

from backends.placement.types import Plan
from backends.text import Text

_QUANTIZED = ("int8", "nf4")


def why_reload(old: Plan, new: Plan) -> Text | None:
    """Why the model that was loaded by `old` can't be moved to `new` in memory; None when it can.

    Room is not looked at: it is checked against what is free when it is tried.
    """
    if (old.model_path, old.engine) != (new.model_path, new.engine):
        return Text("move.other_model", "The new plan is for another model or another engine.")
    if (old.precision, old.compute_dtype) != (new.precision, new.compute_dtype):
        return Text.of(
            "move.precision",
            "Its weights are loaded as {old}; {new} has to be made from the files.",
            old=old.precision,
            new=new.precision,
        )
    for _, device in new.device_map:
        if device.startswith("cuda:") and int(device.removeprefix("cuda:")) not in old.visible_gpus:
            return Text.of(
                "move.hidden_gpu",
                "{device} is hidden from the process that holds the model.",
                device=device,
            )
    changed = _changed_width(old, new) if new.precision in _QUANTIZED else None
    if changed is not None:
        return Text.of(
            "move.width",
            "{module} is kept in another precision there; it has to be made from the files.",
            module=changed,
        )
    return None


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
