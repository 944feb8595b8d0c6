"""The names that configs may give are those that transformers knows."""

from __future__ import annotations

from transformers.activations import ACT2FN

from backends.models.originals.config_values import ACTIVATIONS


def test_every_activation_is_one_of_transformers() -> None:
    assert set(ACT2FN) >= ACTIVATIONS
    assert [name for name in ACTIVATIONS if list(ACT2FN[name].parameters())] == []
