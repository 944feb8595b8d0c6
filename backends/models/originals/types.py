"""How a checkpoint in another layout becomes a model of today's classes, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backends.models.types import Companions

__all__ = ["Companions", "Delta", "Part", "Recipe", "Source"]


@dataclass(frozen=True, slots=True)
class Part:
    """Values in a weight file (.safetensors or .bin): its tensor `key`, or only `rows` [from, to) of it."""

    file: Path
    key: str
    rows: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """What a LoRA adds to a weight [outputs, inputs]: `scale` x `up` [outputs, r] @ `down` [r, inputs].

    `turned` where the weight is stored as [inputs, outputs] (GPT-2's).
    """

    down: Part
    up: Part
    scale: float
    turned: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Where a tensor of the loaded model comes from. With `deltas` its values are in no file as they are."""

    part: Part
    deltas: tuple[Delta, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a native model is made of, without reading a weight.

    `layout` is `llava`, `cogvlm`, `chatglm` or `native` (today's layout, with a LoRA). `config` is what
    config.json of the native class would say, whole. `sources` has every tensor of the loaded model by its
    name there. `tokenizer` is the folder that holds the tokenizer's files, `pictures` the settings of the
    picture processor (preprocessor_config.json), `template` the name of the conversation's format.
    `weights` are the files that are read; `companions` are where what was leaned on was found.
    """

    folder: Path
    layout: str
    config: Mapping[str, Any]
    sources: Mapping[str, Source]
    weights: tuple[Path, ...]
    tokenizer: Path
    template: str
    pictures: Mapping[str, Any] = field(default_factory=dict)
    companions: Companions = field(default_factory=Companions)
