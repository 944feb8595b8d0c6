"""Pure: what a preset, a model or a machine leaves of the settings that a person made by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import Any

from backends.errors import SettingInvalid, SnugError
from backends.hardware.types import HardwareSnapshot
from backends.models.types import ModelInfo
from backends.placement.labels import SETTINGS, set_by_hand
from backends.placement.types import EngineName, Overrides
from backends.placement.workload import LEAST_PICTURE_TOKENS
from backends.presets import CONVERTED_PRECISIONS, FULL_PRECISIONS, MEANT, PRECISIONS, Preset
from backends.text import Text

# What a person can choose from.
_MEANT = {**MEANT, Preset.CPU: (*FULL_PRECISIONS, *CONVERTED_PRECISIONS)}
# The engines that a checkpoint can be run with here, and the precisions of each.
ENGINES: Mapping[EngineName, tuple[str, ...]] = MappingProxyType(
    {"transformers": PRECISIONS, "llamacpp": CONVERTED_PRECISIONS}
)
# Settings that llama.cpp does not have.
_NOT_LLAMACPP = ("cpu_layers_mode", "offload_dir", "device_map")
# Settings that belong to one model.
_COMPANIONS = ("base", "vision_tower", "tokenizer", "template")
# Settings that name parts of one machine.
OF_MACHINE = ("gpus", "max_memory", "device_map")
# What the command line calls the settings -> field of Overrides.
KEYS = {"context": "context_tokens"} | {field: field for field in SETTINGS}
_EMPTY = Overrides()
_NAMES: Mapping[EngineName, str] = MappingProxyType({"llamacpp": "llama.cpp", "transformers": "transformers"})
# More than any field can mean.
_MOST = 10**9
_LEAVE_EMPTY = Text("custom.leave_empty", "Correct it, or leave the field empty.")


@dataclass(frozen=True, slots=True)
class Kept:
    """Settings that still make sense, and a sentence for each that does not."""

    overrides: Overrides
    dropped: tuple[Text, ...] = ()


def name_of(field: str) -> Text:
    """What the page calls a setting."""
    return SETTINGS[field]


def quoted(field: str) -> Text:
    """A setting's name in a sentence."""
    return Text.of("custom.named", '"{name}"', name=name_of(field))


def in_words(error: SnugError) -> SnugError:
    """The error, naming a setting as the page does: the planner says what the command line calls it."""
    key, _, device = str(error.values.get("name", "")).partition(".")
    if not isinstance(error, SettingInvalid) or key not in KEYS:
        return error
    name = Text.of("custom.limit_of", "The limit of {device}", device=device) if device else quoted(KEYS[key])
    return SettingInvalid(**error.values | {"name": name})


def set_fields(overrides: Overrides) -> tuple[str, ...]:
    """The settings that were made by hand, in the page's order."""
    return set_by_hand(overrides)


def without(overrides: Overrides, *fields: str) -> Overrides:
    """The settings with `fields` back to automatic."""
    back: dict[str, Any] = {field: getattr(_EMPTY, field) for field in fields}
    return replace(overrides, **back)


def for_preset(overrides: Overrides, preset: Preset) -> Kept:
    """What `preset` leaves: it decides the precision it is named for, and whether GPUs take part."""
    why = Text.of("kept.preset", "the preset {preset} decides that", preset=Text(f"preset.{preset}", preset))
    against = contradictions(overrides, preset)
    kept = without(overrides, *(field for field in against if field != "max_memory"))
    if "max_memory" in against:
        kept = replace(kept, max_memory=_limits(kept, lambda device: not device.startswith("cuda:")))
    return Kept(kept, _said(against, why))


def contradictions(overrides: Overrides, preset: Preset) -> tuple[str, ...]:
    """The settings that say something else than the preset's name."""
    against = []
    if overrides.precision is not None and overrides.precision not in _MEANT.get(
        preset, (overrides.precision,)
    ):
        against.append("precision")
    devices = [device for _, device in overrides.device_map or ()]
    if preset is Preset.CPU:
        against += ["gpus"] if overrides.gpus is not None else []
        against += ["gpu_layers"] if overrides.gpu_layers else []
        against += ["cpu_layers_mode"] if overrides.cpu_layers_mode is not None else []
        against += (
            ["max_memory"] if any(device.startswith("cuda:") for device, _ in overrides.max_memory) else []
        )
        against += ["device_map"] if any(device.startswith("cuda:") for device in devices) else []
    if preset is Preset.HIGH:
        against += ["gpu_layers"] if overrides.gpu_layers is not None else []
        against += ["device_map"] if not all(device.startswith("cuda:") for device in devices) else []
    return tuple(against)


def for_engine(overrides: Overrides, engine: EngineName | None) -> Kept:
    """The settings with `engine` (None: Snug chooses), and what that leaves: precisions that it has."""
    changed = replace(overrides, engine=engine)
    if engine is None:
        return Kept(changed)
    against = ["precision"] if changed.precision not in (None, *ENGINES[engine]) else []
    if engine == "llamacpp":
        against += [field for field in _NOT_LLAMACPP if getattr(changed, field) is not None]
    why = Text.of("kept.engine", "{engine} does not have it", engine=_NAMES[engine])
    return Kept(without(changed, *against), _said(tuple(against), why))


def preset_for(overrides: Overrides, preset: Preset) -> Preset:
    """The preset under which `overrides` can be set: Custom, where `preset` would mean something else."""
    return Preset.CUSTOM if contradictions(overrides, preset) else preset


def for_model(overrides: Overrides, model: ModelInfo, *, own_map: bool = False) -> Kept:
    """What another model leaves: numbers it can have. A device map is made of one model's names."""
    dropped: list[Text] = []

    def drop(field: str, why: Text) -> None:
        nonlocal overrides
        overrides = without(overrides, field)
        dropped.extend(_said((field,), why))

    if overrides.gpu_layers is not None and overrides.gpu_layers > model.layers:
        drop("gpu_layers", Text.of("kept.layers", "this model has {layers} layers", layers=model.layers))
    if overrides.context_tokens is not None and overrides.context_tokens > model.text.max_context:
        most = model.text.max_context
        drop("context_tokens", Text.of("kept.context", "this model holds {most:count} tokens", most=most))
    if model.format == "gguf":
        if overrides.precision is not None and overrides.precision != model.dtype:
            drop("precision", Text("kept.gguf_precision", "a GGUF file has the precision it was made with"))
        if overrides.engine == "transformers":
            drop("engine", Text("kept.gguf_engine", "GGUF files run with llama.cpp"))
    if overrides.images and model.vision is None:
        drop("images", Text("kept.text_only", "this model reads text only"))
    if overrides.image_tokens is not None and overrides.image_tokens not in detail_range(model):
        drop("image_tokens", Text("kept.detail", "this model has other levels of detail, or only one"))
    if overrides.device_map is not None and not own_map:
        drop("device_map", Text("kept.map", "it was made for another model"))
    return Kept(overrides, tuple(dropped))


def for_machine(overrides: Overrides, hardware: HardwareSnapshot) -> Kept:
    """What another machine leaves: its own GPUs' settings."""
    here = {f"cuda:{gpu.index}" for gpu in hardware.gpus} | {"cpu", "disk"}
    why = Text("kept.machine", "there is no such GPU")
    dropped: list[str] = []
    if overrides.gpus is not None:
        left = tuple(index for index in overrides.gpus if f"cuda:{index}" in here) or None
        dropped += ["gpus"] if left != overrides.gpus else []
        overrides = replace(overrides, gpus=left)
    limits = _limits(overrides, lambda device: device in here)
    if limits != overrides.max_memory:
        dropped.append("max_memory")
        overrides = replace(overrides, max_memory=limits)
    if overrides.gpu_layers and not hardware.gpus:
        dropped.append("gpu_layers")
        overrides = without(overrides, "gpu_layers")
    if any(device not in here for _, device in overrides.device_map or ()):
        dropped.append("device_map")
        overrides = without(overrides, "device_map")
    return Kept(overrides, _said(tuple(dropped), why))


def without_companions(overrides: Overrides) -> Kept:
    """What another model leaves before it is read: all but what the one before leaned on."""
    named = companions_of(overrides)
    why = Text("kept.companion", "it was for another model")
    return Kept(without(overrides, *named), _said(named, why))


def companions_of(overrides: Overrides) -> tuple[str, ...]:
    """The settings that name what a checkpoint leans on."""
    return tuple(field for field in _COMPANIONS if getattr(overrides, field) is not None)


def detail_range(model: ModelInfo) -> range:
    """The numbers of tokens that a picture may be given; empty for families with one size only."""
    if model.vision is None or not model.vision.dynamic:
        return range(0)
    most = model.vision.tokens_per_image
    return range(min(LEAST_PICTURE_TOKENS, most), most + 1)


def number(field: str, value: float | None) -> int | None:
    """A number that a person wrote; None when the field is empty. Raises SettingInvalid."""
    if value is None:
        return None
    if not -_MOST <= value <= _MOST:  # NaN neither
        raise SettingInvalid(
            name=quoted(field),
            value=f"{value:g}",
            detail=Text.of("ui.number_too_large", "It takes a whole number up to {most:count}.", most=_MOST),
            suggestion=_LEAVE_EMPTY,
        )
    return int(value)


def named_model(written: str | None) -> str | None:
    """A model that a person typed or pasted, by its folder or its name; None when the field is empty."""
    return (written or "").strip().strip('"').strip() or None


def folder(written: str | None) -> str | None:
    """A folder that a person typed; None when the field is empty. Raises SettingInvalid."""
    bare = (written or "").strip().strip('"')
    if not bare:
        return None
    if PurePosixPath(bare).is_absolute() or PureWindowsPath(bare).is_absolute() or bare[0] == "~":
        return bare
    raise SettingInvalid(
        name=quoted("offload_dir"),
        value=f'"{bare[:60]}"',
        detail=Text("custom.not_a_path", "It is not a whole path, so it could mean several folders."),
        suggestion=_LEAVE_EMPTY,
    )


def with_limit(overrides: Overrides, device: str, nbytes: int) -> Overrides:
    """The settings with a limit for `device`."""
    others = _limits(overrides, lambda other: other != device)
    return replace(overrides, max_memory=(*others, (device, nbytes)))


def _limits(overrides: Overrides, keep: Callable[[str], bool]) -> tuple[tuple[str, int], ...]:
    return tuple((device, nbytes) for device, nbytes in overrides.max_memory if keep(device))


def _said(fields: tuple[str, ...], why: Text) -> tuple[Text, ...]:
    return tuple(
        Text.of("kept.dropped", "{name}: back to automatic, because {why}.", name=name_of(field), why=why)
        for field in fields
    )
