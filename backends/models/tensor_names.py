"""What the tensors of a published file are called in the model that transformers builds from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backends.models.defaults import model_class
from backends.models.geometry import text_config
from backends.models.naming import loaded_names
from backends.models.renaming import renamed
from backends.models.vision import has_vision


def tensor_names(stored: Sequence[str], config: Mapping[str, Any], family: str) -> Mapping[str, str]:
    """Every tensor's name in the loaded model: by transformers' rules, then by the shape of all families."""
    text = str(text_config(config).get("model_type", family))
    inside = () if text == family else (model_class(text), text)
    by_rule = renamed(stored, family, architecture(config, family), inside)
    later = loaded_names(by_rule.values(), multimodal=has_vision(config), family=family)
    return {name: later[new] for name, new in by_rule.items()}


def architecture(config: Mapping[str, Any], family: str) -> str:
    """The class that a config names, else its family."""
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else family
