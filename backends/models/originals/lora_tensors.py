"""Sorts the tensors of a PEFT LoRA: pairs of matrices by the module they change, and weights saved whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backends.errors import ModelDamaged
from backends.models.adapter import unmergeable
from backends.models.types import Tensor
from backends.models.weight_files import Located
from backends.text import Text, shown_name

_PREFIX = "base_model.model."
_SIDE = re.compile(
    r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.(?!(?:weight|bias)$)\w+)?(?:\.weight)?"
)
# What PEFT wraps around a module that it trains whole, or keeps beside an embedding's LoRA.
_WRAPPED = re.compile(r"\.(?:modules_to_save|base_layer)(?:\.default)?(?=\.)")
_ORIGINAL = ".original_module."


@dataclass(slots=True)
class Pair:
    """The matrices whose product is added to a module's weight, by side, `A` [r, in] and `B` [out, r]."""

    embedding: bool
    sides: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Added:
    """An adapter's tensors: pairs by their module's path, and whole tensors by their own path, as PEFT saw
    the model.
    """

    pairs: Mapping[str, Pair]
    whole: Mapping[str, Tensor]


def sort_tensors(folder: Path, tensors: Mapping[str, Located]) -> Added:
    """Sort `tensors`, an adapter's by their keys.

    Raises ModelUnsupported for one that is neither a matrix of a pair nor a weight of the model itself,
    ModelDamaged where one of a pair is missing or there are two.
    """
    pairs: dict[str, Pair] = {}
    whole: dict[str, Tensor] = {}
    for key, located in tensors.items():
        path, tensor = key.removeprefix(_PREFIX), located.tensor
        side = _SIDE.fullmatch(path)
        if side is not None:
            pair = pairs.setdefault(side["module"], Pair(bool(side["embedding"])))
            if side["side"] in pair.sides or pair.embedding != bool(side["embedding"]):
                raise _twice(folder, key, tensor)
            pair.sides[side["side"]] = tensor
        elif ".lora_" in path:
            raise unmergeable(folder, _unknown(key))
        elif _ORIGINAL not in path:  # what the base model had, kept beside what took its place
            path = _WRAPPED.sub("", path)
            if path in whole:
                raise _twice(folder, key, tensor)
            whole[path] = tensor
    for module, pair in pairs.items():
        _check(folder, module, pair)
    return Added(pairs, whole)


def _check(folder: Path, module: str, pair: Pair) -> None:
    if len(pair.sides) < 2:
        tensor = next(iter(pair.sides.values()))
        detail = Text.of(
            "lora.half", "Of the two matrices for {module} one is missing.", module=shown_name(module)
        )
        raise ModelDamaged(path=str(folder), detail=detail, file=tensor.file)
    down, up = pair.sides["A"].shape, pair.sides["B"].shape
    if len(down) != 2 or len(up) != 2 or down[0] != up[1] or not down[0]:
        raise unmergeable(
            folder,
            Text.of(
                "lora.shapes",
                "Its matrices for {module} are {down} and {up}, which have no product of two dimensions.",
                module=shown_name(module),
                down=" x ".join(map(str, down)),
                up=" x ".join(map(str, up)),
            ),
        )


def _unknown(key: str) -> Text:
    return Text.of(
        "lora.tensor",
        "It holds {tensor}, which is more than a product added to a weight (DoRA, for one): Snug can't "
        "merge it.",
        tensor=shown_name(key),
    )


def _twice(folder: Path, key: str, tensor: Tensor) -> ModelDamaged:
    detail = Text.of(
        "pickled.twice", "{file} holds {tensor} twice.", file=tensor.file, tensor=shown_name(key)
    )
    return ModelDamaged(path=str(folder), detail=detail, file=tensor.file)
