"""Matrices in classes of a family's own are not counted as quantized."""

from __future__ import annotations

import pytest

from backends.models.linears import kept_linears


@pytest.mark.parametrize(
    ("family", "kept"),
    [
        ("falcon", {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}),
        ("llama4", {"router"}),
        ("llama", set()),
        ("llava", set()),
        ("of no family", set()),
        ("../../falcon", set()),
    ],
    ids=["all of Falcon's", "a router", "Llama has none", "nor has LLaVA", "an unknown type", "a path"],
)
def test_what_stays_as_it_is(family: str, kept: set[str]) -> None:
    assert kept_linears(family) == kept
