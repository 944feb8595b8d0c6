"""Read off a loaded model what was really done: devices, dtypes, quantized layers, peak memory."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import psutil
import torch

from backends.engines.devices import driver_device, runtime_device
from backends.engines.loading import Loaded
from backends.placement.types import Plan
from backends.reports import LoadReport

_QUANTIZED = frozenset({"Linear8bitLt", "Linear4bit"})
_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


def make_report(loaded: Loaded, plan: Plan, context_tokens: int, seconds: float) -> LoadReport:
    """Describe the loaded model. `cuda:N` is the driver's index, as in the plan."""
    model = loaded.model
    quantized = [m for m in model.modules() if type(m).__name__ in _QUANTIZED]
    dtype = _main_dtype(model)
    precision = dtype
    if quantized:
        kinds = {type(module).__name__ for module in quantized}
        precision = "int8" if kinds == {"Linear8bitLt"} else "nf4"
    devices = real_device_map(model, tuple(name for name, _ in plan.device_map))
    return LoadReport(
        engine="transformers",
        precision=precision,
        device_map=tuple((name, driver_device(device, plan.visible_gpus)) for name, device in devices),
        dtype=dtype,
        quantized=len(quantized),
        offload_dir=plan.offload_dir if any(device == "disk" for _, device in devices) else None,
        seconds=seconds,
        peaks=memory_peaks(plan),
        supports_images=loaded.supports_images,
        context_tokens=context_tokens,
    )


def real_device_map(model: Any, names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """(module, device) of the modules `names`; a module that is spread is reported by its parts.

    Without names (or with the empty one) the model's direct children are reported.
    """
    places = _parameter_places(model)
    wanted = [name for name in names if name] or [name for name, _ in model.named_children()]
    found: list[tuple[str, str]] = []
    for name in wanted:
        found.extend(_places_of(name, model.get_submodule(name), places))
    return tuple(found)


def _places_of(name: str, module: Any, places: dict[str, str]) -> list[tuple[str, str]]:
    prefix = name + "."
    devices = {device for key, device in places.items() if key.startswith(prefix) or key == name}
    if len(devices) == 1:
        return [(name, devices.pop())]
    parts: list[tuple[str, str]] = []
    for child, submodule in module.named_children():
        parts.extend(_places_of(prefix + child, submodule, places))
    return parts


def _parameter_places(model: Any) -> dict[str, str]:
    """Where the values of every parameter are; offloaded ones are found through accelerate's hooks."""
    places: dict[str, str] = {}
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            key = f"{module_name}.{name}" if module_name else name
            places[key] = _place(parameter, module, name)
    return places


def _place(parameter: Any, module: Any, name: str) -> str:
    if parameter.device.type != "meta":
        return str(parameter.device)
    weights = getattr(getattr(module, "_hf_hook", None), "weights_map", None)
    if weights is None:
        return "meta"
    prefix = getattr(weights, "prefix", "")
    held = getattr(weights, "dataset", weights)
    return "cpu" if prefix + name in getattr(held, "state_dict", {}) else "disk"


def _main_dtype(model: Any) -> str:
    """The dtype that holds most of the unquantized floating-point numbers."""
    sizes: Counter[torch.dtype] = Counter()
    for parameter in model.parameters():
        if parameter.dtype.is_floating_point:
            sizes[parameter.dtype] += parameter.numel()
    main = sizes.most_common(1)[0][0] if sizes else torch.float32
    return _NAMES.get(main, str(main).removeprefix("torch."))


def memory_peaks(plan: Plan) -> tuple[tuple[str, int], ...]:
    """(device, peak bytes): of this process's RAM, and of torch's allocations on every GPU of the plan."""
    peaks = [("cpu", peak_rss())]
    for device in sorted({device for _, device in plan.device_map if device.startswith("cuda")}):
        index = torch.device(runtime_device(device, plan.visible_gpus))
        peaks.append((device, torch.cuda.max_memory_allocated(index)))
    return tuple(peaks)


def peak_rss() -> int:
    """The most RAM this process has held since it began, in bytes."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
