"""CogVLM written out plainly from its description, for comparisons in precisions without stored answers.

Every token passes both experts and a mask chooses; rotations are tables in the model's dtype, with positions
counted in that of the stored frequencies, as the authors' code keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

Weights = Mapping[str, torch.Tensor]


def logits(
    weights: Weights,
    config: Mapping[str, Any],
    ids: torch.Tensor,
    *,
    features: torch.Tensor | None,
    types: torch.Tensor,
    places: torch.Tensor,
) -> torch.Tensor:
    """Tokens, types, positions [tokens], features [picture tokens, hidden] -> logits [tokens, vocab]."""
    hidden = weights["model.embed_tokens.weight"][ids]
    if features is not None:
        hidden[types == 1] = features.to(hidden.dtype)
    vision = torch.zeros_like(types, dtype=torch.bool)
    vision[:-1] = (types[:-1] == 1) & (types[1:] == 1)
    for layer in range(config["num_hidden_layers"]):
        own = {
            name.removeprefix(f"model.layers.{layer}."): value
            for name, value in weights.items()
            if name.startswith(f"model.layers.{layer}.")
        }
        normed = _norm(hidden, own["input_layernorm.weight"], config)
        hidden = hidden + _attention(own, config, normed, vision, places)
        normed = _norm(hidden, own["post_attention_layernorm.weight"], config)
        hidden = hidden + _either(vision, *(_mlp(own, side, normed) for side in ("vision", "language")))
    return functional.linear(_norm(hidden, weights["model.norm.weight"], config), weights["lm_head.weight"])


def _either(vision: torch.Tensor, seen: torch.Tensor, spoken: torch.Tensor) -> torch.Tensor:
    return torch.where(vision[:, None], seen, spoken)


def _norm(hidden: torch.Tensor, weight: torch.Tensor, config: Mapping[str, Any]) -> torch.Tensor:
    exact = hidden.float()
    exact = exact / (exact.square().mean(-1, keepdim=True) + config["rms_norm_eps"]).sqrt()
    return (weight * exact).to(hidden.dtype)


def _mlp(own: Weights, side: str, hidden: torch.Tensor) -> torch.Tensor:
    gate, up, down = (own[f"mlp.{side}_mlp.{part}_proj.weight"] for part in ("gate", "up", "down"))
    return (functional.silu(hidden @ gate.T) * (hidden @ up.T)) @ down.T


def _attention(
    own: Weights, config: Mapping[str, Any], hidden: torch.Tensor, vision: torch.Tensor, places: torch.Tensor
) -> torch.Tensor:
    name = "self_attn.{}_expert_{}.{}"
    sides = [
        functional.linear(
            hidden,
            own[name.format(side, "query_key_value", "weight")],
            own.get(name.format(side, "query_key_value", "bias")),
        )
        for side in ("vision", "language")
    ]
    heads, kept = config["num_attention_heads"], config["num_key_value_heads"]
    mixed = _either(vision, *sides).unflatten(-1, (heads + 2 * kept, -1)).transpose(0, 1)
    query, key, value = mixed.split((heads, kept, kept))
    stored = own["self_attn.rotary_emb.inv_freq"]
    table = torch.outer(torch.arange(int(places.max()) + 1, dtype=stored.dtype), stored)
    cos, sin = (part.to(hidden.dtype)[places] for part in (table.cos(), table.sin()))
    query, key = (_turned(states, cos, sin) for states in (query, key))
    key, value = (states.repeat_interleave(heads // kept, dim=0) for states in (key, value))
    scores = (query @ key.transpose(1, 2)) / query.shape[-1] ** 0.5
    future = torch.ones(len(places), len(places), dtype=torch.bool).triu(1)
    chances = scores.float().masked_fill(future, -torch.inf).softmax(-1).to(hidden.dtype)
    joined = (chances @ value).transpose(0, 1).flatten(1)
    dense = [joined @ own[name.format(side, "dense", "weight")].T for side in ("vision", "language")]
    return _either(vision, *dense)


def _turned(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    left, right = states.chunk(2, -1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)
