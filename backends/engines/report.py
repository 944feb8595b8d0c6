"""Read off a loaded model what was really done: devices, dtypes, quantized layers, peak memory."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from backends.engines.devices import driver_device, runtime_device
from backends.engines.loading import Loaded
from backends.engines.rss import peak_rss
from backends.engines.tensors import QUANTIZED
from backends.placement.types import Plan
from backends.reports import DevicePeak, LoadReport

_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


def make_report(loaded: Loaded, plan: Plan, context_tokens: int, seconds: float) -> LoadReport:
    """Describe the loaded model. `cuda:N` is the driver's index, as in the plan."""
    model = loaded.model
    quantized = [m for m in model.modules() if type(m).__name__ in QUANTIZED]
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

    Without names (or with the empty one) the model's direct children are reported. Names of nothing are left
    out: some families rotate positions without a module for it, which no header tells.
    """
    places, modules = _parameter_places(model), dict(model.named_modules())
    wanted = [name for name in names if name] or [name for name, _ in model.named_children()]
    found: list[tuple[str, str]] = []
    for name in wanted:
        if name in modules:
            found.extend(_places_of(name, modules[name], places))
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
    """Where the values of every parameter are."""
    places: dict[str, str] = {}
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            key = f"{module_name}.{name}" if module_name else name
            places[key] = _place(parameter)
    return places


def _place(parameter: Any) -> str:
    """Where a parameter rests; only what rests on the disk has no values."""
    return "disk" if parameter.device.type == "meta" else str(parameter.device)


def _main_dtype(model: Any) -> str:
    """The dtype that holds most of the unquantized floating-point numbers."""
    sizes: Counter[torch.dtype] = Counter()
    for parameter in model.parameters():
        if parameter.dtype.is_floating_point:
            sizes[parameter.dtype] += parameter.numel()
    main = sizes.most_common(1)[0][0] if sizes else torch.float32
    return _NAMES.get(main, str(main).removeprefix("torch."))


class Meter:
    """Watches a loaded model's memory from now on; the load's own peaks are forgotten."""

    def __init__(self, model: Any, plan: Plan) -> None:
        self._plan = plan
        self._weights = weights_at_rest(model, plan)
        self._mapped_weights = mapped_weights(model)
        self._gpus = gpus_of(plan)
        for device in self._gpus:
            # What loading left in the allocator is free for answers: it is no need of theirs.
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._index(device))

    def read(self) -> tuple[DevicePeak, ...]:
        """The RAM's weights, and every GPU's with torch's peaks."""
        ram = DevicePeak("cpu", self._weights.get("cpu", 0), mapped_weights_bytes=self._mapped_weights)
        return (ram, *(self._gpu(device) for device in self._gpus))

    def _gpu(self, device: str) -> DevicePeak:
        index = self._index(device)
        return DevicePeak(
            device,
            self._weights.get(device, 0),
            peak_bytes=torch.cuda.max_memory_reserved(index),
            allocated_bytes=torch.cuda.max_memory_allocated(index),
            now_bytes=torch.cuda.memory_reserved(index),
        )

    def _index(self, device: str) -> torch.device:
        return torch.device(runtime_device(device, self._plan.visible_gpus))


def gpus_of(plan: Plan) -> tuple[str, ...]:
    """The plan's GPUs by the driver's index."""
    return tuple(sorted({device for _, device in plan.device_map if device.startswith("cuda")}))


def weights_at_rest(model: Any, plan: Plan) -> dict[str, int]:
    """Bytes of the model's tensors by device; the plan's figures where some are offloaded."""
    found: Counter[str] = Counter()
    offloaded = False
    for tensor in _tensors(model):
        offloaded = offloaded or tensor.device.type == "meta"
        found[driver_device(str(tensor.device), plan.visible_gpus)] += tensor.nbytes
    if offloaded:
        found.update({share.device: share.weights_bytes - found[share.device] for share in plan.devices})
    return dict(found)


def mapped_weights(model: Any, maps: Path = Path("/proc/self/maps")) -> int:
    """Bytes of tensors that are views of a mapped weight file: they take RAM only once they are read.

    Linux tells which addresses those are; elsewhere 0, and their resident pages count as they are.
    """
    try:
        lines = maps.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0
    areas = sorted(
        (int(start, 16), int(end, 16))
        for start, end in (
            line.split(" ", 1)[0].split("-") for line in lines if line.endswith((".safetensors", ".bin"))
        )
    )
    starts = [start for start, _ in areas]

    def is_mapped(address: int) -> bool:
        position = bisect_right(starts, address) - 1
        return position >= 0 and address < areas[position][1]

    return sum(
        tensor.nbytes
        for tensor in _tensors(model)
        if tensor.device.type == "cpu" and is_mapped(tensor.data_ptr())
    )


def _tensors(model: Any) -> list[torch.Tensor]:
    """Every parameter and buffer once, also where two names share one."""
    found = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return list(found.values())


def memory_peaks(plan: Plan) -> tuple[tuple[str, int], ...]:
    """(device, peak bytes): of this process's RAM, and of torch's allocations on every GPU of the plan."""
    peaks = [("cpu", peak_rss())]
    for device in gpus_of(plan):
        index = torch.device(runtime_device(device, plan.visible_gpus))
        peaks.append((device, torch.cuda.max_memory_allocated(index)))
    return tuple(peaks)
