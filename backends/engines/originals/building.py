"""Carry out a plan on a recipe: a native model, filled from files of another layout, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event as Flag
from typing import Any

import torch
import transformers
from safetensors.torch import save_file

from backends.engines.base import ProgressSink
from backends.engines.devices import compute_dtype
from backends.engines.options import load_options
from backends.engines.placing import CPU, DISK, covers
from backends.engines.progress import read_ahead, watched
from backends.engines.tensors import Stored
from backends.engines.values import Resting, Value, place_of
from backends.models.conversions import converted
from backends.models.originals.headers import Headers
from backends.models.originals.types import Recipe
from backends.models.structure import is_buffer
from backends.models.tensor_names import tensor_names
from backends.placement.types import Plan


def build(
    plan: Plan, recipe: Recipe, progress: ProgressSink, cancel: Flag, folder: Path | None
) -> tuple[Any, dict[str, Any], dict[str, Stored]]:
    """Return the model of `recipe`, what transformers tells of the loading, and where its tensors lie.

    What a LoRA changes is merged; where that is to rest on the disk, into files in `folder`. Raises
    `SnugError`s of its own; upstream ones pass through.
    """
    dtype, headers = compute_dtype(plan), Headers()
    names, put_together = _loaded(recipe)
    state: dict[str, Value | Resting] = {}
    stored: dict[str, Stored] = {}
    sizes: dict[str, int] = {}
    for name, source in recipe.sources.items():
        place, device = place_of(source.part, headers), _device(plan, names[name])
        value = state[name] = Value(headers, source, dtype)
        sizes[name] = value.nbytes
        if name in put_together:
            continue
        if not source.deltas:
            stored[name] = Stored(str(place.file), source.part.key, dtype, place)
        if device == DISK and not is_buffer(name):
            write = None
            if source.deltas:
                if folder is None:
                    raise RuntimeError("merged weights rest on the disk and there is no folder for them")
                file = folder / f"{name}.safetensors"
                stored[name] = Stored(str(file), name, dtype)
                write = partial(_write, name, value, dtype, file)
            state[name] = Resting(place.shape, write)
    read_ahead(recipe.weights)
    config = configuration(recipe)
    with watched(sizes, progress, cancel):
        model, info = model_class(recipe, config).from_pretrained(
            None,
            config=config,
            state_dict=state,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # transformers then tells which ones; they are refused afterwards
            **load_options(_in_ram(plan)),
        )
    return model, info, stored


def _loaded(recipe: Recipe) -> tuple[Mapping[str, str], frozenset[str]]:
    """The sources' names in the loaded model, and which of them transformers makes something else of."""
    if recipe.layout != "native":
        return {name: name for name in recipe.sources}, frozenset()
    names = tensor_names(list(recipe.sources), recipe.config, str(recipe.config["model_type"]))
    return names, converted(names, recipe.config)


def configuration(recipe: Recipe) -> Any:
    """The native config object of `recipe`."""
    if recipe.layout == "cogvlm":
        from backends.engines.originals.cogvlm.configuration import CogVLMConfig

        return CogVLMConfig(**recipe.config)
    config = dict(recipe.config)
    return transformers.AutoConfig.for_model(**config)


def model_class(recipe: Recipe, config: Any) -> Any:
    """The class that answers with `config`, which `configuration` made of `recipe`."""
    if recipe.layout == "cogvlm":
        from backends.engines.originals.cogvlm.modeling import CogVLMForCausalLM

        return CogVLMForCausalLM
    if recipe.layout == "llava":
        from backends.engines.originals.llava.model import model_class as llava_class

        return llava_class(recipe.config)
    seeing = transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    return (
        seeing[type(config)]
        if type(config) in seeing
        else transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    )


def _in_ram(plan: Plan) -> Plan:
    """The plan with RAM in place of the disk: what rests there has placeholders without values."""
    placed = tuple((name, CPU if device == DISK else device) for name, device in plan.device_map)
    return replace(plan, device_map=placed)


def _device(plan: Plan, name: str) -> str:
    return next((device for unit, device in plan.device_map if covers(unit, name)), CPU)


def _write(name: str, value: Value, dtype: torch.dtype, file: Path) -> None:
    save_file({name: value[...].to(dtype).contiguous()}, file)
