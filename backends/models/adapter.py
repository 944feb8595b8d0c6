"""A LoRA beside its base model: what merging it takes, from its config and header."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from backends.errors import ModelUnsupported
from backends.models.checkpoint import read_json
from backends.models.geometry import number
from backends.models.safetensors_header import read_header
from backends.models.types import Adapter
from backends.text import Text

_CONFIG, _WEIGHTS, _PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"


def is_adapter(folder: Path) -> bool:
    """Whether `folder` holds an adapter and no whole model of its own."""
    whole = ("model.safetensors", "model.safetensors.index.json")
    return (folder / _CONFIG).is_file() and not any((folder / name).is_file() for name in whole)


def read_adapter(folder: Path) -> tuple[Adapter, Path]:
    """Return the adapter in `folder` and the folder of its base model.

    The base is looked for at the path that the adapter's config names, then beside `folder` under the last
    part of that name. Raises ModelUnsupported when it is not a LoRA or its base is not there, ModelDamaged
    when its config or header is not readable.
    """
    config = read_json(folder / _CONFIG)
    if str(config.get("peft_type", "LORA")).upper() != "LORA":
        kind = Text.of("adapter.kind", "It is an adapter of the kind {kind}.", kind=str(config["peft_type"]))
        raise _unsupported(folder, kind)
    base = _base(folder, config)
    if base is None:
        raise _unsupported(
            folder,
            Text(
                "checkpoint.adapter",
                "It holds an adapter (LoRA), which is an addition to a model and not a model.",
            ),
        )
    nbytes = 0
    if (folder / _WEIGHTS).is_file():
        nbytes = sum(tensor.nbytes for tensor in read_header(folder / _WEIGHTS).tensors)
    elif (folder / _PICKLED).is_file():
        nbytes = (folder / _PICKLED).stat().st_size
    return Adapter(folder.name, number(config, "r") or 0, nbytes), base


def merging_not_yet(adapter: Adapter) -> Text:
    """Why a model with its LoRA can be planned with but not loaded."""
    return Text.of(
        "adapter.not_yet",
        "Snug can plan the model together with its LoRA {name}, but can't merge and load them yet.",
        name=adapter.name,
    )


def _base(folder: Path, config: Mapping[str, Any]) -> Path | None:
    stated = config.get("base_model_name_or_path")
    if not isinstance(stated, str) or not stated.strip():
        return None
    last = PurePosixPath(stated.replace("\\", "/")).name
    places = (Path(stated), folder.parent / stated, folder.parent / last)
    for place in places:
        if place.is_absolute() and (place / "config.json").is_file() and place.resolve() != folder.resolve():
            return place
    return None


def _unsupported(folder: Path, detail: Text) -> ModelUnsupported:
    return ModelUnsupported(
        path=str(folder),
        detail=detail,
        suggestion=Text("checkpoint.adapter_remedy", "Open the model that the adapter belongs to."),
    )
