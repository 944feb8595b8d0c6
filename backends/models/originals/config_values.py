"""Single values of a checkpoint's JSON files, and the errors about those that can't be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.errors import ModelDamaged, ModelUnsupported
from backends.text import Text, shown_name

# Those of transformers that have no weights of their own.
ACTIVATIONS = frozenset(
    {
        *("gelu", "gelu_10", "gelu_fast", "gelu_new", "gelu_python", "gelu_pytorch_tanh", "gelu_python_tanh"),
        *("gelu_accurate", "quick_gelu", "relu", "relu2", "relu6", "leaky_relu", "sigmoid", "silu", "swish"),
        *("hardswish", "laplace", "linear", "mish", "tanh"),
    }
)


@dataclass(frozen=True, slots=True)
class Values:
    """What `file` of `folder` says, or its part under the key `part`: null is the same as nothing.

    All raise ModelDamaged, with file, key and value, for a value of another kind.
    """

    folder: Path
    stated: Mapping[str, Any]
    file: str = "config.json"
    part: str = ""

    def real(self, key: str, default: float) -> float:
        """A number above zero."""
        value = self.stated.get(key)
        if value is None:
            return default
        if is_positive(value):
            return float(value)
        raise self.malformed(key)

    def whole(self, key: str, default: int) -> int:
        """A whole number above zero."""
        value = self.stated.get(key)
        if value is None:
            return default
        if is_whole(value) and 0 < value < 1 << 31:
            return int(value)
        raise self.malformed(key)

    def flag(self, key: str, *, default: bool) -> bool:
        """A yes or no."""
        value = self.stated.get(key)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        raise self.malformed(key)

    def token(self, key: str, rows: int) -> int | None:
        """A token of a vocabulary of `rows`; None where nothing is said."""
        value = self.stated.get(key)
        if value is None or (is_whole(value) and 0 <= value < rows):
            return value
        raise self.malformed(key)

    def tokens(self, key: str, rows: int) -> list[int]:
        """The tokens, one or a list of them."""
        value = self.stated.get(key)
        found = value if isinstance(value, list) else [] if value is None else [value]
        if all(is_whole(token) and 0 <= token < rows for token in found):
            return found
        raise self.malformed(key)

    def activation(self, key: str, default: str) -> str:
        """A function's name. Raises ModelUnsupported for one that transformers does not have."""
        value = self.stated.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.malformed(key)
        if value in ACTIVATIONS:
            return value
        detail = Text.of(
            "originals.activation",
            "Its {file} names {value} as {key}, a function that transformers does not have.",
            file=self.file,
            value=shown_name(value),
            key=self._whole_key(key),
        )
        remedy = Text.of(
            "originals.activation_remedy",
            "Download {file} again; if the publisher's says the same, use another model.",
            file=self.file,
        )
        raise ModelUnsupported(path=str(self.folder), detail=detail, suggestion=remedy)

    def malformed(self, key: str) -> ModelDamaged:
        """The error about the value of `key`."""
        return malformed(self.folder, self._whole_key(key), self.stated.get(key), self.file)

    def _whole_key(self, key: str) -> str:
        return f"{self.part}.{key}" if self.part else key


def malformed(folder: Path, key: str, value: object, file: str = "config.json") -> ModelDamaged:
    """The error about a value in a checkpoint's `file` that can't be one."""
    detail = Text.of(
        "originals.value",
        "Its {file} gives {key} as {value}, which can't be.",
        file=file,
        key=key,
        value=shown_name("null" if value is None else str(value)),
    )
    return ModelDamaged(path=str(folder), detail=detail, file=file)


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, as which JSON's true and false don't count."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_positive(value: object) -> bool:
    """Whether a value is a number above zero that can be written as a float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e300


def is_finite(value: object) -> bool:
    """Whether a value is a number, of either sign."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
