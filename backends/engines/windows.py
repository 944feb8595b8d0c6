"""Caches of layers with a sliding window that hold their window and no more.

transformers keeps the last tokens of such a layer as a view of what it has just computed: after a long prompt
every layer holds the keys and values of all its tokens until the next one comes. A copy of the window lets
them go as soon as the layer has used them, which is what a plan counts on.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import (
    DYNAMIC_LAYER_TYPE_MAPPING,
    DynamicSlidingWindowLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
)


class _Windowed(DynamicSlidingWindowLayer):
    keys: torch.Tensor
    values: torch.Tensor

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add tokens; returns what the layer attends to, and keeps its window in memory of its own."""
        found = super().update(key_states, value_states, *args, **kwargs)
        # One token more than the window is what every step of decoding leaves behind anyway.
        if not self.record_past and found[0].shape[-2] > self.sliding_window:
            self.keys, self.values = self.keys.clone(), self.values.clone()
        return found


class WindowLayer(_Windowed):
    """Keys and values of the window's tokens."""


class HybridWindowLayer(_Windowed, LinearAttentionAndSlidingWindowAttentionLayer):
    """Keys and values of the window's tokens beside a recurrent state."""


def keep_windows_small() -> None:
    """Let every cache that this process makes from now on be made of these layers."""
    DYNAMIC_LAYER_TYPE_MAPPING.update(
        {
            "sliding_attention": WindowLayer,
            "chunked_attention": WindowLayer,
            "hybrid_sliding": HybridWindowLayer,
        }
    )
