"""What a person calls a precision, a preset, a device or a figure of the hardware, in their language."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from backends.models.types import ModuleKind
from backends.placement.types import Overrides
from backends.text import Text, Value

_FORMAT = {
    "bf16": "bf16",
    "fp16": "fp16",
    "fp32": "fp32",
    "int8": "8-bit (LLM.int8)",
    "nf4": "4-bit (NF4)",
}
_PRESETS = {
    "auto": "Recommended",
    "high": "High VRAM",
    "mid": "Balanced",
    "low": "Low VRAM",
    "cpu": "CPU only",
    "custom": "Custom",
}
_FIGURES: Mapping[str, Text] = MappingProxyType(
    {
        "gpus.total_bytes": Text("figure.gpu_total", "GPU memory"),
        "gpus.free_bytes": Text("figure.gpu_free", "free GPU memory"),
        "gpus.compute_capability": Text("figure.gpu_generation", "GPU generation"),
        "gpus.memory_gbps": Text("figure.gpu_memory_speed", "GPU memory speed"),
        "gpus.pcie_gbps": Text("figure.pcie_speed", "PCIe speed"),
        "gpus.tflops_bf16": Text("figure.gpu_speed", "GPU computing speed"),
        "ram.available_bytes": Text("figure.ram_free", "free RAM"),
        "ram.memory_gbps": Text("figure.ram_speed", "RAM speed"),
        "cpu.cores": Text("figure.cpu_cores", "number of CPU cores"),
        "cpu.features": Text("figure.cpu_features", "CPU instruction sets"),
        "cpu.gflops_fp32": Text("figure.cpu_speed", "CPU computing speed"),
        "disk.free_bytes": Text("figure.disk_free", "free disk space"),
        "disk.read_gbps": Text("figure.disk_speed", "disk speed"),
    }
)
_PARTS: Mapping[ModuleKind, Text] = MappingProxyType(
    {
        ModuleKind.VISION: Text("part.vision", "vision part"),
        ModuleKind.PROJECTOR: Text("part.projector", "projector"),
        ModuleKind.EMBED: Text("part.embed", "embeddings"),
        ModuleKind.LAYER: Text("part.layer", "layers"),
        ModuleKind.NORM: Text("part.norm", "final norm"),
        ModuleKind.HEAD: Text("part.head", "head"),
        ModuleKind.OTHER: Text("part.other", "other parts"),
    }
)
# Fields of Overrides that the page has a control for, in its order.
SETTINGS: Mapping[str, Text] = MappingProxyType(
    {
        "base": Text("custom.base", "Base model"),
        "vision_tower": Text("custom.vision_tower", "Vision tower"),
        "tokenizer": Text("custom.tokenizer", "Tokenizer"),
        "template": Text("custom.template", "Conversation format"),
        "engine": Text("custom.engine", "Engine"),
        "gpus": Text("custom.gpus", "GPUs to use"),
        "gpu_layers": Text("custom.gpu_layers", "Layers on the GPU"),
        "precision": Text("custom.precision", "Precision"),
        "context_tokens": Text("custom.context_tokens", "Context (tokens)"),
        "images": Text("custom.images", "Pictures per chat"),
        "image_tokens": Text("custom.image_tokens", "Image detail (tokens)"),
        "cpu_layers_mode": Text("custom.cpu_layers_mode", "Where layers in RAM run"),
        "offload_dir": Text("custom.offload_dir", "Offload folder"),
        "max_memory": Text("custom.max_memory", "Memory limits"),
        "device_map": Text("custom.device_map", "Device map"),
    }
)


def precision_label(name: str) -> str:
    """The field's name of a precision (of GGUF files in capitals), the same in every language."""
    return _FORMAT.get(name, name.upper())


def preset_label(preset: str) -> Text:
    """The preset as the page's dropdown names it."""
    return Text(f"preset.{preset}", _PRESETS[preset])


def device_label(device: str, name: str) -> Value:
    """A device as the beginning of a sentence; `name` is the GPU's."""
    if device == "cpu":
        return Text("device.ram", "The memory (RAM)")
    return Text("device.disk", "The disk") if device == "disk" else f"{device} ({name})"


def rest_label(*, ram: bool, disk: bool) -> Text:
    """Where the layers are that no GPU holds."""
    if ram and disk:
        return Text("device.in_ram_and_on_disk", "in RAM and on the disk")
    return Text("device.on_disk", "on the disk") if disk else Text("device.in_ram", "in RAM")


def parts_label(kinds: Iterable[ModuleKind]) -> Value:
    """Name parts of a model (at least one), each kind once."""
    return _listed(_PARTS[kind] for kind in dict.fromkeys(kinds))


def figures_label(paths: Iterable[str]) -> Value:
    """Name figures of a hardware description (`gpus[0].memory_gbps`), each once however many GPUs have it."""
    keys = dict.fromkeys(re.sub(r"\[\d+\]", "", path) for path in paths)
    return _listed(_FIGURES.get(key, key) for key in keys)


def set_by_hand(overrides: Overrides) -> tuple[str, ...]:
    """The fields that a person set, in the page's order."""
    unset = Overrides()
    return tuple(field for field in SETTINGS if getattr(overrides, field) != getattr(unset, field))


def settings_label(fields: Iterable[str]) -> Value:
    """Name settings (at least one) as the page's controls are named."""
    return _listed(SETTINGS[field] for field in fields)


def _listed(items: Iterable[Value]) -> Value:
    names = list(items)
    listed = names.pop()
    while names:
        listed = Text.of("list.and_more", "{first}, {rest}", first=names.pop(), rest=listed)
    return listed
