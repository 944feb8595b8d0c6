"""Layers with a window hold the window, bit for bit the same answers, and no more memory than was planned."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event as Flag
from typing import Any

import pytest
import torch
from transformers import DynamicCache, Gemma3ForCausalLM, Gemma3TextConfig, MistralConfig, MistralForCausalLM
from transformers.cache_utils import DYNAMIC_LAYER_TYPE_MAPPING, DynamicSlidingWindowLayer

from backends.engines.cache import is_croppable
from backends.engines.runner import WholeRunner
from backends.engines.windows import keep_windows_small
from backends.models.types import LayerCache

SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 6, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 320, "sliding_window": 16,
}  # fmt: skip
PROMPT, STEPS = 200, 4
KEYS = 2 * 32


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """transformers' own layers, whatever an engine that was loaded before has put in their place."""
    before = dict(DYNAMIC_LAYER_TYPE_MAPPING)
    DYNAMIC_LAYER_TYPE_MAPPING["sliding_attention"] = DynamicSlidingWindowLayer
    yield
    DYNAMIC_LAYER_TYPE_MAPPING.update(before)


def model(family: str) -> Any:
    torch.manual_seed(1)
    if family == "gemma3":
        return Gemma3ForCausalLM(Gemma3TextConfig(**SIZES)).eval()
    return MistralForCausalLM(MistralConfig(**SIZES)).eval()


def answered(made: Any) -> tuple[list[torch.Tensor], list[list[int]]]:
    """Logits of the prompt and of four steps, and the bytes that each layer held after each."""
    runner = WholeRunner(made, torch.device("cpu"), torch.float32)
    ids = torch.arange(PROMPT).remainder(300).unsqueeze(0)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    logits = [runner.start(inputs, PROMPT + STEPS, Flag())]
    held = [bytes_of(runner._state["past_key_values"])]
    for token in range(STEPS):
        logits.append(runner.step(token))
        held.append(bytes_of(runner._state["past_key_values"]))
    return logits, held


def bytes_of(cache: DynamicCache) -> list[int]:
    return [
        layer.keys.untyped_storage().nbytes() + layer.values.untyped_storage().nbytes()
        for layer in cache.layers
    ]


@pytest.mark.parametrize(
    ("family", "kinds"),
    [
        pytest.param("gemma3", [LayerCache(KEYS, 16)] * 5 + [LayerCache(KEYS)], id="Gemma 3: five of six"),
        pytest.param("mistral", [LayerCache(KEYS, 16)] * 6, id="Mistral with a window: all"),
    ],
)
def test_no_layer_ever_holds_more_than_was_planned(family: str, kinds: list[LayerCache]) -> None:
    made = model(family)
    expected, loose = answered(made)
    keep_windows_small()

    found, held = answered(made)

    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    planned = [kind.nbytes(PROMPT + STEPS, 0, 4) for kind in kinds]
    for layers in held:
        assert all(0.9 * most <= here <= most for here, most in zip(layers, planned, strict=True))
    # What they are for: without them every layer holds the whole prompt until the next token.
    assert loose[0][0] == KEYS * 4 * PROMPT


def test_such_models_are_still_known_by_their_caches() -> None:
    keep_windows_small()

    assert not is_croppable(model("gemma3").config)
    assert is_croppable(MistralConfig(**{**SIZES, "sliding_window": None}))
