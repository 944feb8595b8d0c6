"""What an original LLaVA checkpoint is an addition to: the base of a LoRA or of a bare projector."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from backends.errors import ModelUnsupported, SnugError
from backends.models.adapter import Finder
from backends.models.checkpoint import read_json, read_json_if_there
from backends.models.geometry import number
from backends.models.originals.companions import base_absent, find_companion, given_folder, last_part
from backends.models.originals.found import Found, in_folder
from backends.models.weight_files import has_weights
from backends.text import Text, shown_name

_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_TABLE = "model.embed_tokens.weight"
_MADE_FROM = re.compile(r"(?:^|[-_])pretrain[-_](?P<base>.+)")


class Kind(StrEnum):
    """What a folder of the original LLaVA holds."""

    WHOLE = "whole"
    LORA = "lora"
    PROJECTOR = "projector"


def kind_of(folder: Path) -> Kind:
    """By the files that there are: whole weights come before any addition that was left beside them."""
    if has_weights(folder):
        return Kind.WHOLE
    if (folder / "adapter_config.json").is_file() or (folder / "non_lora_trainables.bin").is_file():
        return Kind.LORA
    return Kind.PROJECTOR if (folder / "mm_projector.bin").is_file() else Kind.WHOLE


def find_base(
    folder: Path, kind: Kind, config: Mapping[str, Any], given: Path | None, finder: Finder
) -> Path:
    """The folder of the base model: `given`, else where a config or the only fitting model beside it says.

    Raises ModelUnsupported when it is not there, or is an addition itself.
    """
    stated: object = None
    if given is not None:
        found: Path | None = given_folder(given)
    elif kind is Kind.LORA:
        stated = read_json_if_there(folder / "adapter_config.json").get("base_model_name_or_path")
        stated = stated or config.get("base_model_name_or_path") or _other_name(folder, config)
        found = find_companion(folder, stated, finder)
    else:
        stated = config.get("base_model_name_or_path") or _other_name(folder, config)
        found = find_companion(folder, stated, finder) or _fitting(folder, config)
    if found is None:
        raise base_absent(folder, stated)
    if not has_weights(found) and any(
        (found / name).is_file()
        for name in ("adapter_config.json", "mm_projector.bin", "non_lora_trainables.bin")
    ):
        detail = Text.of(
            "adapter.of_adapter",
            "It belongs to {base}, which is an adapter itself.",
            base=shown_name(found.name),
        )
        remedy = Text("checkpoint.adapter_remedy", "Open the model that the adapter belongs to.")
        raise ModelUnsupported(path=str(folder), detail=detail, suggestion=remedy)
    return found


def base_weights(folder: Path, base: Path, config: Mapping[str, Any]) -> dict[str, Found]:
    """The base's tensors by its own keys. Raises ModelUnsupported for another width than `config` states, or
    a model of other names; errors as `in_folder`.
    """
    found = in_folder(base)
    table = found.get(_TABLE)
    if table is None or len(table.tensor.shape) != 2:
        detail = Text.of(
            "llava.base_foreign",
            "Its base {base} is no language model in LLaMA's layout: it has no {tensor}.",
            base=shown_name(base.name),
            tensor=_TABLE,
        )
        raise ModelUnsupported(path=str(folder), detail=detail, suggestion=_name_base())
    width, has = number(config, "hidden_size"), table.tensor.shape[1]
    if width is not None and width != has:
        detail = Text.of(
            "llava.base_width",
            "It was made for a language model of width {width}, and {base} is {has} wide.",
            width=width,
            base=shown_name(base.name),
            has=has,
        )
        raise ModelUnsupported(path=str(folder), detail=detail, suggestion=_name_base())
    return found


def _other_name(folder: Path, config: Mapping[str, Any]) -> str | None:
    """`_name_or_path` where it is the model that training began with, not this one's own name."""
    stated = config.get("_name_or_path")
    if not isinstance(stated, str) or last_part(stated) in ("", folder.name):
        return None
    made_from = _MADE_FROM.search(last_part(stated))
    return made_from["base"] if made_from else stated


def _fitting(folder: Path, config: Mapping[str, Any]) -> Path | None:
    """The language model beside `folder` with the sizes of `config`, if there is just one, or one of the name
    that `folder` was made from.
    """
    sizes = {key: number(config, key) for key in _SIZES}
    if None in sizes.values():
        return None
    fitting = [place for place in _beside(folder) if _has_sizes(place, sizes)]
    stated = config.get("_name_or_path")
    for name in (folder.name, last_part(stated) if isinstance(stated, str) else ""):
        made_from = _MADE_FROM.search(name)
        for place in fitting:
            if made_from and made_from["base"] == place.name:
                return place
    return fitting[0] if len(fitting) == 1 else None


def _beside(folder: Path) -> Iterator[Path]:
    home = folder.absolute()
    try:
        places = sorted(home.parent.iterdir())
    except OSError:
        return
    for place in places:
        if place != home and (place / "config.json").is_file() and has_weights(place):
            yield place


def _has_sizes(place: Path, sizes: Mapping[str, int | None]) -> bool:
    try:
        config = read_json(place / "config.json")
    except SnugError:
        return False  # a damaged neighbour is nobody's base
    plain = config.get("model_type") in ("llama", "mistral") and "mm_vision_tower" not in config
    return plain and all(number(config, key) == size for key, size in sizes.items())


def _name_base() -> Text:
    return Text(
        "adapter.foreign_remedy",
        "Name the model that it was trained on: under Custom on the page, or with --set base=PATH in a "
        "terminal.",
    )
