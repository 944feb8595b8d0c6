"""Matrices that bitsandbytes leaves alone are not counted as quantized: by name, and in every family."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backends.models.linears import are_turned, kept_linears
from tests.support.real_trees import published

MATRICES = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize(
    ("family", "kept"),
    [
        ("falcon", {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}),
        ("llama4", {"router"}),
        ("mixtral", {"gate"}),
        ("deepseek_v32", {"gate", "indexer.weights_proj"}),
        ("llama", set()),
        ("llava", set()),
        ("of no family", set()),
        ("../../falcon", set()),
    ],
    ids=[
        *("all of Falcon's", "a router", "a router's own parameter", "what is kept in float32"),
        *("Llama has none", "nor has LLaVA", "an unknown type", "a path"),
    ],
)
def test_what_stays_as_it_is(family: str, kept: set[str]) -> None:
    norms = {name for name in kept_linears(family) if "norm" in name}
    assert kept_linears(family) - norms == kept
    assert not kept_linears(family) & MATRICES


@pytest.mark.parametrize(
    ("family", "turned"), [("gpt2", True), ("llama", False), ("llava", False), ("of no family", False)]
)
def test_gpt_2_stores_its_matrices_turned(family: str, turned: bool) -> None:
    assert are_turned(family) == turned


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What transformers and bitsandbytes really quantize, beside the plan; torch stays out of here."""
    folder = tmp_path_factory.mktemp("quantized")
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.quantized_parts", str(folder), *published()],
        capture_output=True,
        check=True,
        timeout=240,
        cwd=Path(__file__).parents[3],
        text=True,
    )
    found = map(json.loads, done.stdout.splitlines())
    return {one["family"]: one for one in found}


@pytest.mark.parametrize("family", published())
def test_what_is_quantized_is_what_the_plan_says(family: str, compared: dict[str, dict[str, Any]]) -> None:
    found = compared[family]
    assert "error" not in found
    assert "refused" in found or found["wrong"] == {}


def test_nearly_every_family_is_compared(compared: dict[str, dict[str, Any]]) -> None:
    assert sum("refused" in found for found in compared.values()) <= 2
