"""ChatGLM3's forward pass in plain steps, in any dtype, to tell how far rounding alone carries its logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention, silu

_HEADS, _GROUPS, _SIZE, _LAYERS, _LAST = 4, 2, 16, 2, 8


def reference_logits(weights: Mapping[str, Tensor], ids: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Logits [8, vocabulary] of the last positions, float32, for the fixture's shape.

    `weights` by the names of the native class.
    """
    kept = {name: tensor.to(dtype) for name, tensor in weights.items()}
    hidden = kept["model.embed_tokens.weight"][torch.tensor(ids)]
    table = _table(len(ids), dtype)
    for layer in range(_LAYERS):
        at = f"model.layers.{layer}."
        hidden = hidden + _attention(
            kept, f"{at}self_attn.", _norm(hidden, kept[f"{at}input_layernorm.weight"]), table
        )
        inner = linear(
            _norm(hidden, kept[f"{at}post_attention_layernorm.weight"]), kept[f"{at}mlp.gate_up_proj.weight"]
        )
        gate, up = inner.chunk(2, dim=-1)
        hidden = hidden + linear(silu(gate) * up, kept[f"{at}mlp.down_proj.weight"])
    return linear(_norm(hidden, kept["model.norm.weight"]), kept["lm_head.weight"])[-_LAST:].float()


def _norm(hidden: Tensor, weight: Tensor) -> Tensor:
    square = hidden.float().pow(2).mean(-1, keepdim=True)
    return weight * (hidden.float() * torch.rsqrt(square + 1e-5)).to(hidden.dtype)


def _table(length: int, dtype: torch.dtype) -> Tensor:
    """Cosines and sines [length, 4, 2] of half a head, in the compute dtype as the authors keep them."""
    turned = _SIZE // 2
    speeds = 1.0 / 10_000 ** (torch.arange(0, turned, 2).float() / turned)
    angles = torch.outer(torch.arange(length).float(), speeds)
    return torch.stack((angles.cos(), angles.sin()), dim=-1).to(dtype)


def _turn(states: Tensor, table: Tensor) -> Tensor:
    """Rotate neighbouring pairs in the first half of [heads, length, size]."""
    half, rest = states.chunk(2, dim=-1)
    even, odd = half[..., ::2], half[..., 1::2]
    cos, sin = table.unbind(-1)
    turned = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)
    return torch.cat((turned, rest), dim=-1)


def _attention(kept: Mapping[str, Tensor], at: str, hidden: Tensor, table: Tensor) -> Tensor:
    parts = [linear(hidden, kept[f"{at}{part}_proj.weight"], kept[f"{at}{part}_proj.bias"]) for part in "qkv"]
    query, key, value = (part.reshape(len(hidden), -1, _SIZE).transpose(0, 1) for part in parts)
    query, key = _turn(query, table), _turn(key, table)
    key, value = (part.repeat_interleave(_HEADS // _GROUPS, dim=0) for part in (key, value))
    mixed = scaled_dot_product_attention(query[None], key[None], value[None], is_causal=True)[0]
    return linear(mixed.transpose(0, 1).flatten(-2), kept[f"{at}o_proj.weight"])
