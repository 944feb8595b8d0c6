"""Numbered blocks are found by their numbers, and by nothing that only looks like one."""

from __future__ import annotations

import pytest

from backends.models.naming import block_of


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("model.layers.0.mlp.up.weight", ("model.layers", 0)),
        ("model.layers.79.mlp.up.weight", ("model.layers", 79)),
        ("h.11.attn.weight", ("h", 11)),
        ("model.layers.03.mlp.up.weight", None),
        ("model.layers.\u0663.mlp.up.weight", None),
        ("model.layers.\u00b2.mlp.up.weight", None),
        ("model.layers.99999999999.mlp.up.weight", None),
        (f"model.layers.{'9' * 5000}.mlp.up.weight", None),
        ("model.embed_tokens.weight", None),
    ],
    ids=lambda value: str(value)[:40].encode("ascii", "replace").decode(),
)
def test_blocks(name: str, block: tuple[str, int] | None) -> None:
    assert block_of(name) == block
