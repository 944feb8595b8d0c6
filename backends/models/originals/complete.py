"""Weights that a layout's model lacks, or has no place for: both would make another model of it, unsaid."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from backends.errors import ModelDamaged
from backends.text import Text, shown_name

# What training programs leave in weight files beside the weights.
_TRAINING = frozenset(
    {"optimizer", "optimizer_state", "lr_scheduler", "exp_avg", "exp_avg_sq", "grad_scaler"}
)


def is_training_state(key: str) -> bool:
    """Whether a tensor belongs to an optimizer, which nothing that answers needs."""
    return not _TRAINING.isdisjoint(key.split("."))


def check_layers(folder: Path, names: Iterable[str], stem: str, stated: int) -> None:
    """Raise ModelDamaged when `names` hold other layers, numbered behind `stem`, than are `stated`."""
    number = re.compile(re.escape(stem) + r"(\d{1,9})\.")
    have = max((int(found[1]) + 1 for name in names if (found := number.match(name))), default=0)
    if have != stated:
        detail = Text.of(
            "model.layers_missing",
            "The weight files hold {have} decoder layers, and config.json says {stated}.",
            have=have,
            stated=stated,
        )
        raise ModelDamaged(path=str(folder), detail=detail, file=_both())


def missing(folder: Path, names: Sequence[str], expected: int) -> ModelDamaged:
    """The error about weights that no file holds."""
    detail = Text.of(
        "llava.missing",
        "Of its {expected:count} weights {count:count} are in none of its files, the first is {tensor}.",
        expected=expected,
        count=len(names),
        tensor=names[0],
    )
    return ModelDamaged(path=str(folder), detail=detail, file=Text("llava.weight_files", "the weight files"))


def surplus(folder: Path, keys: Sequence[str]) -> ModelDamaged:
    """The error about weights that the model which config.json describes has no place for."""
    detail = Text.of(
        "originals.surplus",
        "Its files hold {count:count} weights that the model in its config.json has no place for, the first "
        "is {tensor}.",
        count=len(keys),
        tensor=shown_name(keys[0]),
    )
    return ModelDamaged(path=str(folder), detail=detail, file=_both())


def _both() -> Text:
    return Text("originals.files", "config.json and the weight files")
