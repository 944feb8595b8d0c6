"""The eyes of a CogVLM: EVA2-CLIP, an optional merging convolution, the gated projector and two markers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN

# torch's default, which the projector's norm has whatever the tower's own is.
_PROJECTOR_EPS = 1e-5


class CogVLMPatchEmbedding(nn.Module):
    """Patches, a class token before them, and learned positions."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.proj = nn.Conv2d(
            config.in_channels, config.hidden_size, kernel_size=config.patch_size, stride=config.patch_size
        )
        self.cls_embedding = nn.Parameter(torch.zeros(1, config.hidden_size))
        self.position_embedding = nn.Embedding(config.num_positions, config.hidden_size)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """[batch, channels, side, side] -> [batch, positions, hidden]."""
        patches = self.proj(pixels).flatten(2).transpose(1, 2)
        first = self.cls_embedding.expand(len(patches), -1, -1)
        whole = torch.cat([first, patches], dim=1)
        places = torch.arange(whole.shape[1], device=whole.device)
        out: torch.Tensor = whole + self.position_embedding(places)  # called: its weight may rest elsewhere
        return out


class CogVLMVisionAttention(nn.Module):
    """Every position attends to every other; one projection, ordered queries, keys, values."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[batch, positions, hidden] -> the same."""
        batch, length, width = hidden.shape
        mixed = self.query_key_value(hidden).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(query, key, value)
        out: torch.Tensor = self.dense(seen.transpose(1, 2).reshape(batch, length, width))
        return out


class CogVLMVisionMLP(nn.Module):
    """Two layers with an exact GELU between."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.act = ACT2FN[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[batch, positions, hidden] -> the same."""
        out: torch.Tensor = self.fc2(self.act(self.fc1(hidden)))
        return out


class CogVLMVisionLayer(nn.Module):
    """A block of the tower. Norms come behind attention and MLP, before each is added."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = CogVLMVisionAttention(config)
        self.mlp = CogVLMVisionMLP(config)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[batch, positions, hidden] -> the same."""
        hidden = hidden + self.input_layernorm(self.attention(hidden))
        out: torch.Tensor = hidden + self.post_attention_layernorm(self.mlp(hidden))
        return out


class CogVLMVisionTransformer(nn.Module):
    """The blocks, one after the other."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList([CogVLMVisionLayer(config) for _ in range(config.num_hidden_layers)])

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[batch, positions, hidden] -> the same."""
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class CogVLMProjector(nn.Module):
    """From the tower's width to the language model's, through a gated layer of the latter's size."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.linear_proj = nn.Linear(config.vision_config.hidden_size, width, bias=False)
        self.norm1 = nn.LayerNorm(width, eps=_PROJECTOR_EPS)
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.dense_h_to_4h = nn.Linear(width, inner, bias=False)
        self.dense_4h_to_h = nn.Linear(inner, width, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[batch, patches, vision hidden] -> [batch, patches, hidden]."""
        hidden = nn.functional.gelu(self.norm1(self.linear_proj(hidden)))
        gated = nn.functional.silu(self.gate_proj(hidden)) * self.dense_h_to_4h(hidden)
        out: torch.Tensor = self.dense_4h_to_h(gated)
        return out


class CogVLMVisionModel(nn.Module):
    """From pixels to the embeddings that stand in the prompt: a marker, the patches, a marker."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        tower = config.vision_config
        self.patch_embedding = CogVLMPatchEmbedding(tower)
        self.transformer = CogVLMVisionTransformer(tower)
        self.linear_proj = CogVLMProjector(config)
        merge = config.spatial_merge_size
        self.conv = (
            nn.Conv2d(tower.hidden_size, tower.hidden_size, kernel_size=merge, stride=merge)
            if merge > 1
            else None
        )
        self.boi = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.eoi = nn.Parameter(torch.zeros(1, 1, config.hidden_size))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """[batch, channels, side, side] -> [batch, tokens, hidden]."""
        seen = self.transformer(self.patch_embedding(pixels))[:, 1:]
        if self.conv is not None:
            side = int(seen.shape[1] ** 0.5)
            seen = seen.transpose(1, 2).unflatten(2, (side, side))
            seen = self.conv(seen).flatten(2).transpose(1, 2)
        patches = self.linear_proj(seen)
        ends = [mark.to(patches.device).expand(len(patches), -1, -1) for mark in (self.boi, self.eoi)]
        return torch.cat([ends[0], patches, ends[1]], dim=1)
