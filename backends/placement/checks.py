"""Checks what a person set against the model and the machine, before anything is planned with it."""

from __future__ import annotations

from backends.errors import SettingInvalid
from backends.hardware.types import Gpu, HardwareSnapshot
from backends.models.types import ModelInfo
from backends.placement.precision import check_choice
from backends.placement.types import Overrides, PlanRequest
from backends.presets import Preset


def check(hardware: HardwareSnapshot, model: ModelInfo, request: PlanRequest) -> None:
    """Raise SettingInvalid for the first setting that can't be carried out as it stands."""
    overrides = request.overrides
    if overrides.precision is not None:
        check_choice(overrides.precision)
    if overrides.engine not in (None, "transformers"):
        raise _invalid(
            "engine", str(overrides.engine), "This version runs models with transformers.", "transformers"
        )
    _check_gpus(hardware, overrides, request.preset)
    _check_layers(hardware, model, overrides, request.preset)
    _check_limits(hardware, overrides)
    _check_context(model, overrides)
    if overrides.cpu_layers_mode not in (None, "compute", "stream"):
        raise _invalid(
            "cpu_layers_mode", str(overrides.cpu_layers_mode), "There is no such mode.", "compute or stream"
        )
    if overrides.offload_dir is not None and not overrides.offload_dir.strip():
        raise _invalid("offload_dir", '""', "It names no folder.", "the path of a folder")


def chosen_gpus(hardware: HardwareSnapshot, request: PlanRequest) -> tuple[Gpu, ...]:
    """The GPUs that the person allows: all of them, those named, or none for the CPU preset."""
    if request.preset is Preset.CPU:
        return ()
    wanted = request.overrides.gpus
    return tuple(gpu for gpu in hardware.gpus if wanted is None or gpu.index in wanted)


def _invalid(name: str, value: object, detail: str, use: str) -> SettingInvalid:
    return SettingInvalid(name=name, value=str(value), detail=detail, suggestion=f"Use {use}.")


def _check_gpus(hardware: HardwareSnapshot, overrides: Overrides, preset: Preset) -> None:
    if not overrides.gpus:
        return
    value = ",".join(map(str, overrides.gpus))
    have = [gpu.index for gpu in hardware.gpus]
    if preset is Preset.CPU:
        raise _invalid("gpus", value, "The preset cpu uses no GPU.", "another preset, or leave gpus out")
    if not have:
        raise _invalid("gpus", value, "This machine has no usable GPU.", "no gpus setting")
    unknown = [index for index in overrides.gpus if index not in have]
    if unknown:
        numbers = ", ".join(map(str, have))
        raise _invalid("gpus", value, f"There is no GPU {unknown[0]} here.", f"numbers among {numbers}")
    if len(set(overrides.gpus)) != len(overrides.gpus):
        raise _invalid("gpus", value, "A GPU is named twice.", "each number once")


def _check_layers(hardware: HardwareSnapshot, model: ModelInfo, overrides: Overrides, preset: Preset) -> None:
    layers = overrides.gpu_layers
    if layers is None:
        return
    if not 0 <= layers <= model.layers:
        raise _invalid("gpu_layers", layers, f"The model has {model.layers} layers.", f"0 to {model.layers}")
    if layers > 0 and (not hardware.gpus or preset is Preset.CPU):
        why = "The preset cpu uses no GPU." if hardware.gpus else "This machine has no usable GPU."
        raise _invalid("gpu_layers", layers, why, "0")


def _check_limits(hardware: HardwareSnapshot, overrides: Overrides) -> None:
    have = [*(f"cuda:{gpu.index}" for gpu in hardware.gpus), "cpu", "disk"]
    for device, nbytes in overrides.max_memory:
        name = f"max_memory.{device}"
        if device not in have:
            raise _invalid(name, nbytes, "There is no such device here.", f"one of {', '.join(have)}")
        if nbytes < 0:
            raise _invalid(name, nbytes, "A limit can't be negative.", "a size such as 6GiB")


def _check_context(model: ModelInfo, overrides: Overrides) -> None:
    images, context = overrides.images, overrides.context_tokens
    if images is not None and images < 0:
        raise _invalid("images", images, "The number of pictures can't be negative.", "0 or more")
    if images and model.vision is None:
        raise _invalid("images", images, "This model reads text only.", "0")
    if context is None:
        return
    if context < 1:
        raise _invalid("context", context, "The context must hold at least one token.", "a positive number")
    if context > model.text.max_context:
        raise _invalid(
            "context",
            context,
            f"The model was made for at most {model.text.max_context:,} tokens.",
            f"at most {model.text.max_context}",
        )
