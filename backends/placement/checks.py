"""Checks what a person set against the model and the machine, before anything is planned with it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from backends.conversion.types import Offers
from backends.errors import SettingInvalid
from backends.hardware.notes import note
from backends.hardware.types import Gpu, HardwareSnapshot
from backends.models.types import ModelInfo
from backends.placement import converted, gguf_checks
from backends.placement.case import GGUF_ENGINE, engine_of
from backends.placement.pictures import ONE_PICTURE
from backends.placement.precision import check_choice
from backends.placement.types import Overrides, PlanRequest
from backends.placement.workload import LEAST_PICTURE_TOKENS
from backends.presets import Preset
from backends.text import Text, Value

# Why a checkpoint takes nothing from elsewhere.
_ITS_OWN: Mapping[str, Text] = MappingProxyType(
    {
        "base": Text("check.base", "This model is no LoRA: it is whole and belongs to no other."),
        "vision_tower": Text("check.vision_tower", "This model takes no vision tower from elsewhere."),
        "tokenizer": Text("check.tokenizer", "This model brings its own tokenizer."),
        "template": Text("check.template", "This model brings its own chat template."),
    }
)


def check(
    hardware: HardwareSnapshot,
    model: ModelInfo,
    request: PlanRequest,
    offers: Offers = converted.NO_OFFERS,
    *,
    llama_on_gpus: bool = False,
) -> None:
    """Raise SettingInvalid for the first setting that can't be carried out as it stands.

    `offers` is what the model can be converted to on this machine, `llama_on_gpus` whether llama.cpp computes
    on GPUs there.
    """
    overrides = request.overrides
    engine = engine_of(model)
    if model.format == "gguf":
        gguf_checks.check(model, overrides)
    else:
        converted.check(model, request, offers)
        if overrides.precision is not None and overrides.precision not in converted.PRECISIONS:
            check_choice(overrides.precision, [variant.model.dtype for variant in offers.variants])
        if overrides.engine == GGUF_ENGINE:
            engine = GGUF_ENGINE
    if overrides.engine not in (None, engine):
        why = Text.of("check.engine", "Models of this format run with {engine}.", engine=engine)
        raise _invalid("engine", str(overrides.engine), why, engine)
    _check_gpus(hardware, overrides, request.preset)
    _check_layers(hardware, model, overrides, request.preset)
    if not llama_on_gpus and converted.only_converted(request):
        _check_no_gpus(overrides)
    _check_limits(hardware, overrides)
    _check_context(model, overrides)
    _check_detail(model, overrides)
    if overrides.cpu_layers_mode not in (None, "compute", "stream"):
        raise _invalid(
            "cpu_layers_mode",
            str(overrides.cpu_layers_mode),
            Text("check.mode", "There is no such mode."),
            "compute, stream",
        )
    if overrides.offload_dir is not None and not overrides.offload_dir.strip():
        raise _invalid("offload_dir", '""', Text("check.no_folder", "It names no folder."), _A_FOLDER)
    _check_companions(model, overrides)
    if model.family in ONE_PICTURE and (overrides.images or 0) > 1:
        why = Text("check.one_picture", "This model looks at one picture a conversation.")
        raise _invalid("images", overrides.images, why, "1")
    if overrides.device_map is not None and overrides.gpu_layers is not None:
        raise _invalid(
            "gpu_layers",
            overrides.gpu_layers,
            Text("check.both", "A device map is set, too, and it already places every layer."),
            Text("check.one_of_both", "one of the two only"),
        )


def _check_companions(model: ModelInfo, overrides: Overrides) -> None:
    """What a person named must be something that the model leans on."""
    for field, why in _ITS_OWN.items():
        named = getattr(overrides, field)
        if named is not None and getattr(model.companions, field) is None:
            raise _invalid(field, named, why, Text("check.nothing", "no such setting here"))


def chosen_gpus(hardware: HardwareSnapshot, request: PlanRequest) -> tuple[Gpu, ...]:
    """The GPUs that the person allows: all of them, those named, or none for the CPU preset."""
    if request.preset is Preset.CPU:
        return ()
    wanted = request.overrides.gpus
    return tuple(gpu for gpu in hardware.gpus if wanted is None or gpu.index in wanted)


def left_out(hardware: HardwareSnapshot, request: PlanRequest) -> dict[int, Text]:
    """The GPUs that are there and may not be used, each with what rules it out."""
    allowed = {gpu.index for gpu in chosen_gpus(hardware, request)}
    why = _CPU_PRESET if request.preset is Preset.CPU else _NOT_CHOSEN
    ruled_out = {gpu.index: why for gpu in hardware.gpus if gpu.index not in allowed}
    return dict(hardware.left_out) | ruled_out


_A_FOLDER = Text("check.a_folder", "the path of a folder")
_CPU_PRESET = Text("check.cpu_preset", "The preset CPU only uses no GPU.")
_NOT_CHOSEN = Text("check.not_chosen", "It is not among the GPUs to use that are set.")
_NO_GPU = Text("check.no_gpu", "There is no usable GPU.")


def _invalid(name: str, value: object, detail: Text, use: Value) -> SettingInvalid:
    """The error about a setting; `use` completes "Use ...": what would be right."""
    suggestion = Text.of("check.use", "Use {what}.", what=use)
    return SettingInvalid(name=name, value=str(value), detail=detail, suggestion=suggestion)


def _check_gpus(hardware: HardwareSnapshot, overrides: Overrides, preset: Preset) -> None:
    if not overrides.gpus:
        return
    value = ",".join(map(str, overrides.gpus))
    have = [gpu.index for gpu in hardware.gpus]
    if preset is Preset.CPU:
        other = Text("check.other_preset", "another preset, or leave this setting out")
        raise _invalid("gpus", value, _CPU_PRESET, other)
    reason = next((why for index, why in hardware.left_out if index in overrides.gpus), None)
    if reason is not None:
        raise _invalid(
            "gpus", value, reason, Text("check.other_gpus", "other GPUs, or leave this setting out")
        )
    if not have:
        raise _invalid("gpus", value, _NO_GPU, Text("check.nothing", "no such setting here"))
    unknown = [index for index in overrides.gpus if index not in have]
    if unknown:
        numbers = ", ".join(map(str, have))
        raise _invalid(
            "gpus",
            value,
            Text.of("check.no_such_gpu", "There is no GPU {index} here.", index=unknown[0]),
            Text.of("check.numbers", "numbers among {numbers}", numbers=numbers),
        )
    if len(set(overrides.gpus)) != len(overrides.gpus):
        raise _invalid(
            "gpus",
            value,
            Text("check.gpu_twice", "A GPU is named twice."),
            Text("check.once", "each number once"),
        )


def _check_layers(hardware: HardwareSnapshot, model: ModelInfo, overrides: Overrides, preset: Preset) -> None:
    layers = overrides.gpu_layers
    if layers is None:
        return
    if not 0 <= layers <= model.layers:
        raise _invalid(
            "gpu_layers",
            layers,
            Text.of("check.layers", "The model has {layers} layers.", layers=model.layers),
            Text.of("check.up_to", "a number from 0 to {most}", most=model.layers),
        )
    if layers > 0 and (not hardware.gpus or preset is Preset.CPU):
        why = _CPU_PRESET if hardware.gpus else _NO_GPU
        raise _invalid("gpu_layers", layers, why, "0")


def _check_no_gpus(overrides: Overrides) -> None:
    """Refuse GPUs for an engine that computes on none."""
    why = note("hardware.llama_cpu")
    if overrides.gpus:
        leave_out = Text("check.gpus_left_out", "engine=transformers, or leave this setting out")
        raise _invalid("gpus", ",".join(map(str, overrides.gpus)), why, leave_out)
    if overrides.gpu_layers:
        raise _invalid("gpu_layers", overrides.gpu_layers, why, "0")


def _check_limits(hardware: HardwareSnapshot, overrides: Overrides) -> None:
    have = [*(f"cuda:{gpu.index}" for gpu in hardware.gpus), "cpu", "disk"]
    for device, nbytes in overrides.max_memory:
        name = f"max_memory.{device}"
        if device not in have:
            raise _invalid(
                name,
                nbytes,
                Text("check.no_such_device", "There is no such device here."),
                Text.of("check.one_of", "one of {choices}", choices=", ".join(have)),
            )
        if nbytes < 0:
            raise _invalid(
                name,
                nbytes,
                Text("check.negative_limit", "A limit can't be negative."),
                Text("check.a_size", "a size such as 6GiB"),
            )


def _check_context(model: ModelInfo, overrides: Overrides) -> None:
    images, context = overrides.images, overrides.context_tokens
    if images is not None and images < 0:
        raise _invalid(
            "images",
            images,
            Text("check.negative_images", "The number of pictures can't be negative."),
            Text("check.zero_or_more", "0 or more"),
        )
    if images and model.vision is None:
        raise _invalid("images", images, Text("check.text_only", "This model reads text only."), "0")
    if context is None:
        return
    if context < 1:
        raise _invalid(
            "context",
            context,
            Text("check.no_context", "The context must hold at least one token."),
            Text("check.positive", "a number above zero"),
        )
    if context > model.text.max_context:
        raise _invalid(
            "context",
            context,
            Text.of(
                "check.context",
                "The model was made for at most {most:count} tokens.",
                most=model.text.max_context,
            ),
            Text.of("check.at_most", "at most {most}", most=model.text.max_context),
        )


def _check_detail(model: ModelInfo, overrides: Overrides) -> None:
    tokens, vision = overrides.image_tokens, model.vision
    if tokens is None:
        return
    if vision is None or not vision.dynamic:
        why = Text("check.fixed_detail", "This model sees every picture with the same number of tokens.")
        raise _invalid("image_tokens", tokens, why, Text("check.nothing", "no such setting here"))
    least = min(LEAST_PICTURE_TOKENS, vision.tokens_per_image)
    if not least <= tokens <= vision.tokens_per_image:
        raise _invalid(
            "image_tokens",
            tokens,
            Text("check.detail", "A picture must stay recognisable, and the model reads only so much."),
            Text.of(
                "check.between",
                "a number from {least} to {most}",
                least=least,
                most=vision.tokens_per_image,
            ),
        )
