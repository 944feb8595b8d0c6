"""Fills a native model from a recipe in the plainest way: every tensor read whole, in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from backends.models.originals.types import Part, Recipe, Source
from backends.models.weight_files import weight_tensors


def read_part(part: Part) -> torch.Tensor:
    """The values of `part`, as its file has them."""
    found = weight_tensors(part.file)[part.key]
    data = np.fromfile(part.file, np.uint8, found.tensor.nbytes, offset=found.offset)
    whole = torch.from_numpy(data).view(getattr(torch, found.tensor.dtype)).reshape(found.tensor.shape)
    return whole if part.rows is None else whole[slice(*part.rows)]


def read_source(source: Source, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The values of `source` with what LoRAs add."""
    value = read_part(source.part).to(dtype)
    for delta in source.deltas:
        product = delta.scale * (read_part(delta.up).to(dtype) @ read_part(delta.down).to(dtype))
        value = value + (product.T if delta.turned else product)
    return value


def state_of(recipe: Recipe, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Every tensor of the model by its name in the recipe."""
    return {name: read_source(source, dtype) for name, source in recipe.sources.items()}


def load(recipe: Recipe, model_class: Any, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """The native model of `recipe`; nothing of it may be missing or left over."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(**recipe.config)
    model, info = model_class.from_pretrained(
        None,
        config=config,
        state_dict=state_of(recipe, dtype),
        dtype=dtype,
        output_loading_info=True,
        **options,
    )
    assert not info["missing_keys"], info["missing_keys"]
    assert not info["unexpected_keys"], info["unexpected_keys"]
    assert not info["mismatched_keys"], info["mismatched_keys"]
    return model.eval()


def nowhere(_: str) -> Path | None:
    """Look in no other place."""
    return None
