"""The language side of a CogVLM: layers with one set of weights for words and another for pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


class Experts(NamedTuple):
    """Which tokens of a pass, counted through its batch, take the experts for pictures and which the others'.

    A pass of words alone has None instead: nothing is picked apart then.
    """

    vision: torch.Tensor
    language: torch.Tensor


def sides(vision: torch.Tensor) -> Experts | None:
    """`vision` [batch, tokens] tells which tokens are a picture's; None when none is."""
    flat = vision.reshape(-1)
    chosen = flat.nonzero().squeeze(-1)
    return Experts(chosen, (~flat).nonzero().squeeze(-1)) if len(chosen) else None


def by_expert(
    hidden: torch.Tensor,
    experts: Experts | None,
    vision: Callable[[torch.Tensor], torch.Tensor],
    language: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """[batch, tokens, in] -> [batch, tokens, out], each token through its own expert and no other."""
    if experts is None:
        return language(hidden)
    if not len(experts.language):
        return vision(hidden)
    flat = hidden.reshape(-1, hidden.shape[-1])
    seen = vision(flat[experts.vision])
    out = seen.new_empty(len(flat), seen.shape[-1])
    out[experts.vision] = seen
    out[experts.language] = language(flat[experts.language])
    return out.view(*hidden.shape[:-1], -1)


class CogVLMRMSNorm(nn.Module):
    """The weight multiplies in float32; what comes out is rounded once, at the end."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., width] -> the same."""
        exact = hidden.float()
        exact = exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + self.eps)
        return (self.weight.float() * exact).to(hidden.dtype)


class CogVLMRotary(nn.Module):
    """Rotation by position, at the frequencies that the checkpoint stores: they are rounded ones.

    Kept in float32 whatever the model's dtype is, so that they stay what is stored.
    """

    inv_freq: torch.Tensor

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dim, self.theta = config.head_dim, config.rope_theta
        self.register_buffer("inv_freq", self.frequencies())

    def frequencies(self) -> torch.Tensor:
        """[head_dim / 2], for a checkpoint that stores none."""
        return 1.0 / self.theta ** (torch.arange(0, self.dim, 2, dtype=torch.float32) / self.dim)

    def forward(self, places: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions [batch, tokens] -> cosines and sines [batch, 1, tokens, head_dim / 2]."""
        angles = places[:, None, :, None].float() * self.inv_freq.float()
        return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn the two halves [batch, heads, tokens, head_dim / 2] of every head against each other."""
    left, right = states.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


class CogVLMAttention(nn.Module):
    """Causal attention over words and pictures alike, projected by each token's own expert."""

    def __init__(self, config: Any, layer: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer
        self.head_dim = config.head_dim
        self.is_causal = True
        self.scaling = self.head_dim**-0.5
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.num_key_value_groups = self.heads // self.kv_heads
        width, all_heads = config.hidden_size, (self.heads + 2 * self.kv_heads) * self.head_dim
        self.rotary_emb = CogVLMRotary(config)
        self.vision_expert_query_key_value = nn.Linear(width, all_heads, bias=config.vision_qkv_bias)
        self.vision_expert_dense = nn.Linear(width, width, bias=False)
        self.language_expert_query_key_value = nn.Linear(width, all_heads, bias=False)
        self.language_expert_dense = nn.Linear(width, width, bias=False)

    def forward(
        self,
        hidden_states: torch.Tensor,
        *,
        places: torch.Tensor,
        experts: Experts | None,
        attention_mask: torch.Tensor | None,
        past_key_values: Any,
    ) -> torch.Tensor:
        """[batch, tokens, hidden] -> the same."""
        batch, length, _ = hidden_states.shape
        mixed = by_expert(
            hidden_states, experts, self.vision_expert_query_key_value, self.language_expert_query_key_value
        )
        heads = mixed.view(batch, length, -1, self.head_dim).transpose(1, 2)
        query, key, value = heads.split((self.heads, self.kv_heads, self.kv_heads), dim=1)
        cos, sin = self.rotary_emb(places, hidden_states.dtype)
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation,  # noqa: SLF001 - where transformers keeps it
            sdpa_attention_forward,
        )
        seen, _ = attend(self, query, key, value, attention_mask, dropout=0.0, scaling=self.scaling)
        return by_expert(
            seen.reshape(batch, length, -1), experts, self.vision_expert_dense, self.language_expert_dense
        )


class CogVLMMLP(nn.Module):
    """The gated layer of one expert."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., hidden] -> the same."""
        out: torch.Tensor = self.down_proj(self.act_fn(self.gate_proj(hidden)) * self.up_proj(hidden))
        return out


class CogVLMExpertMLP(nn.Module):
    """Two gated layers, one for words and one for pictures."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.language_mlp = CogVLMMLP(config)
        self.vision_mlp = CogVLMMLP(config)

    def forward(self, hidden: torch.Tensor, experts: Experts | None) -> torch.Tensor:
        """[batch, tokens, hidden] -> the same."""
        return by_expert(hidden, experts, self.vision_mlp, self.language_mlp)


class CogVLMDecoderLayer(nn.Module):
    """Attention and MLP, each behind its norm."""

    def __init__(self, config: Any, layer: int) -> None:
        super().__init__()
        self.self_attn = CogVLMAttention(config, layer)
        self.mlp = CogVLMExpertMLP(config)
        self.input_layernorm = CogVLMRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = CogVLMRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        hidden_states: torch.Tensor,
        *,
        places: torch.Tensor,
        experts: Experts | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
    ) -> torch.Tensor:
        """[batch, tokens, hidden] -> the same. `places` are positions [batch, tokens]."""
        hidden_states = hidden_states + self.self_attn(
            self.input_layernorm(hidden_states),
            places=places,
            experts=experts,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
        )
        out: torch.Tensor = hidden_states + self.mlp(self.post_attention_layernorm(hidden_states), experts)
        return out
