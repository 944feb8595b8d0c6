"""Today's layout with yesterday's files: pytorch_model.bin, read as .safetensors are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.models.checkpoint import has_safetensors
from backends.models.originals.types import Companions, Part, Recipe, Source
from backends.models.structure import is_buffer
from backends.models.tensor_names import tensor_names
from backends.models.weight_files import has_weights, read_any_headers


def native_recipe(folder: Path, config: Mapping[str, Any]) -> Recipe | None:
    """The recipe of a folder whose weights are all in .bin files; None for every other folder.

    Raises ModelDamaged or ModelUnsupported for files that are not as they should be.
    """
    family = config.get("model_type")
    if not isinstance(family, str) or not family or has_safetensors(folder) or not has_weights(folder):
        return None
    headers = read_any_headers(folder)
    stored = {tensor.name: folder / header.file for header in headers for tensor in header.tensors}
    names = tensor_names(list(stored), config, family)
    return Recipe(
        folder=folder,
        layout="native",
        config=config,
        sources={
            names[key]: Source(Part(file, key)) for key, file in stored.items() if not is_buffer(names[key])
        },
        weights=tuple(sorted(set(stored.values()))),
        tokenizer=folder,
        template="",
        companions=Companions(),
    )
