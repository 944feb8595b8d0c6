"""A LoRA's folder and the model that it belongs to: what is which, and where."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from backends.errors import ModelDamaged, ModelUnsupported
from backends.text import Text, shown_name

# Where a base model of this name is elsewhere on the machine, if it is.
Finder = Callable[[str], Path | None]

_CONFIG, _WEIGHTS, _PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
# The part of a module's path that is the same in every version of a family: from its numbered block on.
_BLOCK = re.compile(r"(?:.*?\.)?(?P<tail>[^.]+\.\d+\..+)")


def is_adapter(folder: Path) -> bool:
    """Whether `folder` holds an adapter and no whole model of its own; not one that may not be entered."""
    whole = tuple(
        f"{name}{index}"
        for name in ("model.safetensors", "pytorch_model.bin")
        for index in ("", ".index.json")
    )
    try:
        return (folder / _CONFIG).is_file() and not any((folder / name).is_file() for name in whole)
    except OSError:
        return False


def base_folder(folder: Path, config: Mapping[str, Any], base: Path | None, elsewhere: Finder) -> Path:
    """The folder of the model that the adapter in `folder` belongs to.

    It is `base` where that is given, else at the path that the adapter's config names, then beside `folder`
    under that name or its last part, then `elsewhere`. Raises ModelUnsupported when the adapter is no LoRA,
    or its base is an adapter itself or not there.
    """
    if str(config.get("peft_type", "LORA")).upper() != "LORA":
        kind = shown_name(str(config["peft_type"]))
        detail = Text.of("adapter.kind", "It is an adapter of the kind {kind}.", kind=kind)
        raise unmergeable(folder, detail)
    found = base or _base(folder, config, elsewhere)
    if is_adapter(found):
        detail = Text.of(
            "adapter.of_adapter",
            "It belongs to {base}, which is an adapter itself.",
            base=shown_name(found.name),
        )
        raise unsupported(folder, detail)
    return found


def adapter_weights(folder: Path) -> Path:
    """The file with the adapter's tensors. Raises ModelDamaged when there is none."""
    for name in (_WEIGHTS, _PICKLED):
        if (folder / name).is_file():
            return folder / name
    detail = Text.of("checkpoint.missing", "{file} is missing.", file=_WEIGHTS)
    raise ModelDamaged(path=str(folder), detail=detail, file=_WEIGHTS)


def _base(folder: Path, config: Mapping[str, Any], elsewhere: Finder) -> Path:
    stated = config.get("base_model_name_or_path")
    if not isinstance(stated, str) or not stated.strip():
        raise _homeless(
            folder, Text("adapter.no_base", "It holds an adapter (LoRA) and does not say of which model.")
        )
    last = PurePosixPath(stated.replace("\\", "/")).name
    try:
        for place in (Path(stated), folder.parent / stated, folder.parent / last):
            if (
                place.is_absolute()
                and (place / "config.json").is_file()
                and place.resolve() != folder.resolve()
            ):
                return place
        found = elsewhere(stated)
    except (OSError, ValueError):  # too long for a path, or none at all
        found = None
    if found is None:
        raise _homeless(
            folder,
            Text.of(
                "adapter.base_absent",
                "It holds an adapter (LoRA) of the model {base}, which is neither beside it nor in the model "
                "folders or the Hub cache.",
                base=shown_name(stated),
            ),
        )
    return found


def tail_of(module: str) -> str:
    """`layers.3.self_attn.q_proj` of whatever stands above it; a head's or an embedding's own name."""
    found = _BLOCK.fullmatch(module)
    return found["tail"] if found else module.rpartition(".")[2]


def unsupported(folder: Path, detail: Text) -> ModelUnsupported:
    """The error about an adapter that is none of a model as it stands."""
    remedy = Text("checkpoint.adapter_remedy", "Open the model that the adapter belongs to.")
    return ModelUnsupported(path=str(folder), detail=detail, suggestion=remedy)


def unmergeable(folder: Path, detail: Text) -> ModelUnsupported:
    """The error about an adapter that only the tool that made it can merge."""
    remedy = Text(
        "adapter.merge_remedy", "Merge it into its model with the tool that made it, and open the result."
    )
    return ModelUnsupported(path=str(folder), detail=detail, suggestion=remedy)


def _homeless(folder: Path, detail: Text) -> ModelUnsupported:
    remedy = Text(
        "adapter.base_remedy",
        "Put that model beside it or into a model folder, or say where it is: under Custom on the page, or "
        "with --set base=PATH in a terminal.",
    )
    return ModelUnsupported(path=str(folder), detail=detail, suggestion=remedy)


def foreign(folder: Path, detail: Text) -> ModelUnsupported:
    """The error about an adapter of another model."""
    remedy = Text(
        "adapter.foreign_remedy",
        "Name the model that it was trained on: under Custom on the page, or with --set base=PATH in a "
        "terminal.",
    )
    return ModelUnsupported(path=str(folder), detail=detail, suggestion=remedy)
