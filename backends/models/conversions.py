"""Which tensors loading puts together, splits or turns: on the disk, only those are written anew.

transformers reads all others where they lie in the checkpoint, whatever it renames them to and whatever dtype
they are used in. Its own rules tell which are which. Where they can't be found, numbered experts count as put
together, as in every family of today.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from backends.models.conversion_rules import rules_are_known, written_rules
from backends.models.naming import is_vision
from backends.models.types import Module, Tensor

_CONVERTER = re.compile(r"WeightConverter\(\s*(?:source_patterns=)?(\[[^\]]*\]|r?\"[^\"]*\")")
_NUMBERED_EXPERT = re.compile(r"\.experts\.\d+\.")
_TASK = re.compile(r"For[A-Z]\w*$")
# Classes inside a model, by whose names there are rules, too.
_INNER_CLASSES = ("Model", "TextModel", "VisionModel")

_Patterns = tuple[re.Pattern[str], ...]


def with_conversions(
    modules: Sequence[Module], tensors: Sequence[Tensor], names: Mapping[str, str], config: Mapping[str, Any]
) -> tuple[Module, ...]:
    """`modules` with the number of their parameters that loading converts.

    `names` maps the files' tensor names to those of the loaded model.
    """
    rules = _Rules(config)
    if not rules.convert_anything:
        return tuple(modules)
    places = {module.name for module in modules}
    found: dict[str, int] = {}
    for tensor in tensors:
        loaded = names[tensor.name]
        if not rules.convert(tensor.name, loaded):
            continue
        place = _owner(loaded, places)
        found[place] = found.get(place, 0) + tensor.parameters
    return tuple(
        replace(module, converted_parameters=min(found[module.name], module.parameters))
        if module.name in found
        else module
        for module in modules
    )


def converted(names: Mapping[str, str], config: Mapping[str, Any]) -> frozenset[str]:
    """Which of the files' tensors loading does more with than rename; `names` as in `with_conversions`."""
    rules = _Rules(config)
    if not rules.convert_anything:
        return frozenset()
    return frozenset(stored for stored, loaded in names.items() if rules.convert(stored, loaded))


class _Rules:
    """What is converted in a model of `config`: rules of a part hold inside of that part."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        stated = config.get("architectures")
        classes = [name for name in stated if isinstance(name, str)] if isinstance(stated, list) else []
        stems = [_TASK.sub("", name) for name in classes]
        kinds = [config.get("model_type"), *classes]
        kinds += [stem + inner for stem in stems for inner in _INNER_CLASSES]
        self._whole = _patterns(kinds)
        self._vision = _patterns([_part(config, "vision_config")])
        self._text = _patterns([_part(config, "text_config"), _part(config, "llm_config")])

    @property
    def convert_anything(self) -> bool:
        """Whether there is any rule."""
        return not rules_are_known() or bool(self._whole or self._vision or self._text)

    def convert(self, stored: str, loaded: str) -> bool:
        """Whether loading converts the tensor."""
        if not rules_are_known():
            return _NUMBERED_EXPERT.search(stored) is not None
        inner = self._vision if any(is_vision(part) for part in loaded.split(".")) else self._text
        return any(pattern.search(name) for pattern in (*self._whole, *inner) for name in {stored, loaded})


def _part(config: Mapping[str, Any], key: str) -> object:
    part = config.get(key)
    return part.get("model_type") if isinstance(part, dict) else None


def _owner(name: str, places: set[str]) -> str:
    """The module that holds the tensor `name`."""
    while name and name not in places:
        name = name.rpartition(".")[0]
    return name


def _patterns(kinds: Iterable[object]) -> _Patterns:
    return tuple(dict.fromkeys(pattern for kind in kinds if isinstance(kind, str) for pattern in _of(kind)))


@lru_cache(maxsize=64)
def _of(kind: str) -> _Patterns:
    """What the rules of a model type or class convert."""
    found = [text for written in written_rules(kind) for text in _CONVERTER.findall(written)]
    return tuple(pattern for text in found for pattern in _compiled(text))


def _compiled(text: str) -> Iterable[re.Pattern[str]]:
    """The patterns of one converter, written as a string or a list of strings."""
    try:
        value = ast.literal_eval(text)
        sources = value if isinstance(value, list) else [value]
        # The library's own reading: a star is any text, and the pattern may lie anywhere in the name.
        return [re.compile(source.replace("*", ".*")) for source in sources]
    except (ValueError, SyntaxError, AttributeError, re.error):
        return []
