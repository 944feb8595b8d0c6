"""What of the LLaVA family transformers' classes compute exactly, and the reasons against everything else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backends.errors import ModelUnsupported
from backends.models.originals.config_values import malformed
from backends.text import Text, shown_name

_CLASS = re.compile(r"Llava\w*ForCausalLM")
_MLP = re.compile(r"mlp(\d+)x_gelu")
_PLAIN = (None, "", "square", "pad", "anyres")


def is_llava(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether `folder` holds a checkpoint, LoRA or projector of the original LLaVA; judged by its content."""
    if isinstance(config.get("vision_config"), dict) and isinstance(config.get("text_config"), dict):
        return False  # today's own layout
    if "mm_vision_tower" in config or any(_CLASS.fullmatch(name) for name in classes(config)):
        return True
    return any((folder / name).is_file() for name in ("non_lora_trainables.bin", "mm_projector.bin"))


def classes(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes that a config names."""
    stated = config.get("architectures")
    return tuple(name for name in stated if isinstance(name, str)) if isinstance(stated, list) else ()


def text_family(config: Mapping[str, Any], base: Mapping[str, Any], folder: Path) -> str:
    """`llama` or `mistral`. ModelUnsupported for other language models."""
    named = (*classes(config), str(config.get("model_type") or ""), str(base.get("model_type") or ""))
    words = " ".join(named).lower()
    for other in (
        "mpt",
        "qwen",
        "gemma",
        "phi",
        "mixtral",
        "stablelm",
        "chatglm",
        "opt_",
        "bunny",
        "minicpm",
    ):
        if other in words:
            raise unsupported(
                folder,
                Text.of(
                    "llava.language",
                    "Its language model is of the kind {kind}; of the original LLaVA's models Snug runs "
                    "those over LLaMA (Vicuna too) and Mistral.",
                    kind=shown_name(classes(config)[0] if classes(config) else other),
                ),
            )
    return "mistral" if "mistral" in words else "llama"


def projector_depth(config: Mapping[str, Any], folder: Path) -> int:
    """Number of linear layers of the projector, with GELU between them; 0 hands patches on as they are."""
    kind = config.get("mm_projector_type", "linear")
    if kind == "identity":
        return 0
    if kind == "linear":
        return 1
    if isinstance(kind, str) and (found := _MLP.fullmatch(kind)) and 0 < int(found[1]) < 100:
        return int(found[1])
    detail = Text.of(
        "llava.projector",
        "Its projector is of the kind {kind}; Snug knows linear, mlp2x_gelu (any number) and identity.",
        kind=shown_name(str(kind)),
    )
    raise unsupported(folder, detail)


def is_tiled(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a picture's tiles are laid out as one map with line ends (v1.6), not just one after the other.

    Raises ModelUnsupported for ways of looking at pictures that the classes don't compute.
    """
    aspect, merge = config.get("image_aspect_ratio"), config.get("mm_patch_merge_type", "flat")
    for asked, known, key in (
        (aspect, _PLAIN, "image_aspect_ratio"),
        (merge if aspect == "anyres" else "flat", ("flat", "spatial_unpad"), "mm_patch_merge_type"),
        (config.get("mm_resampler_type"), (None, "identity"), "mm_resampler_type"),
        (bool(config.get("s2")), (False,), "s2"),
        (config.get("mm_vision_select_feature", "patch"), ("patch", "cls_patch"), "mm_vision_select_feature"),
    ):
        if asked not in known:
            raise _unknown_way(folder, key, asked)
    tiled = aspect == "anyres" and merge == "spatial_unpad"
    if tiled and config.get("mm_vision_select_feature") == "cls_patch":
        raise _unknown_way(folder, "mm_vision_select_feature", "cls_patch")
    return tiled


def figure(config: Mapping[str, Any], key: str, folder: Path, default: int | None = None) -> int:
    """A positive whole number of a config. ModelDamaged for something else, or absent and needed."""
    value = config.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31:
        return value
    raise malformed(folder, key, value)


def other_size(
    folder: Path, name: str, file: Path, has: Sequence[int], wants: Sequence[int]
) -> ModelUnsupported:
    """The error about a weight of another size than the rest of the model: something belongs elsewhere."""
    detail = Text.of(
        "llava.size",
        "Its parts belong to different models: {tensor} in {file} is {has}, and the others make it {wants}.",
        tensor=name,
        file=shown_name(f"{file.parent.name}/{file.name}"),
        has=_written(has),
        wants=_written(wants),
    )
    remedy = Text(
        "llava.size_remedy",
        "Name the base and the vision tower that it was trained with: under Custom on the page, or with "
        "--set base=PATH and --set vision_tower=PATH in a terminal.",
    )
    return ModelUnsupported(path=str(folder), detail=detail, suggestion=remedy)


def unsupported(folder: Path, detail: Text) -> ModelUnsupported:
    """The error about a variant that Snug can't run, with what to use instead."""
    remedy = Text(
        "llava.instead", "Use LLaVA 1.5 or 1.6 over Vicuna or Mistral: Snug runs them as published."
    )
    return ModelUnsupported(path=str(folder), detail=detail, suggestion=remedy)


def _unknown_way(folder: Path, key: str, value: object) -> ModelUnsupported:
    detail = Text.of(
        "llava.way",
        "Its config.json sets {key} to {value}, which transformers' LLaVA classes don't compute.",
        key=key,
        value=shown_name(str(value)),
    )
    return unsupported(folder, detail)


def _written(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "1"
