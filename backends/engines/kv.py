"""The KV cache with room for the tokens to come, so that decoding one copies none of those before it."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """Keys and values [1, heads, tokens, head_dim] as views of buffers that hold `room` tokens.

    transformers' own layer concatenates at every token: it reads and writes all of the cache, and leaves
    freed blocks of every length behind. A buffer is filled in place. Pages of one that were never written
    take no RAM; on a GPU all of it is taken, which is what a plan has counted: an answer that began can't
    run out of memory later. Without enough room the buffers are replaced, each by one that fits.
    """

    def __init__(self, room: int = 0) -> None:
        super().__init__()
        self.room = room
        self._buffers: list[torch.Tensor] = []

    @torch.inference_mode()
    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *args: Any,  # noqa: ARG002 - the signature that attention layers call
        **kwargs: Any,  # noqa: ARG002
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the keys and values of new tokens; returns those of all tokens."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if not self._buffers or self._buffers[0].shape[-2] < end:
            self._replace(key_states, value_states, max(end, self.room))
        self.keys, self.values = (buffer[..., :end, :] for buffer in self._buffers)
        self.keys[..., start:, :] = key_states
        self.values[..., start:, :] = value_states
        return self.keys, self.values

    @torch.inference_mode()
    def trim(self) -> None:
        """Give back the room that no token has taken."""
        if self._buffers and self._buffers[0].shape[-2] > self.get_seq_length():
            self._replace(self.keys[..., :0, :], self.values[..., :0, :], self.get_seq_length())

    def reset(self) -> None:
        """Drop everything."""
        self._buffers = []
        super().reset()

    def _replace(self, key_like: torch.Tensor, value_like: torch.Tensor, tokens: int) -> None:
        """New buffers for `tokens`, first the keys', then the values': only one is held twice at a time."""
        length = self.get_seq_length()
        keys = key_like.new_empty((*key_like.shape[:-2], tokens, key_like.shape[-1]))
        if length:
            keys[..., :length, :] = self.keys
        self.keys = keys[..., :length, :]
        self._buffers[:1] = [keys]
        values = value_like.new_empty((*value_like.shape[:-2], tokens, value_like.shape[-1]))
        if length:
            values[..., :length, :] = self.values
        self.values = values[..., :length, :]
        self._buffers[1:] = [values]


def empty_cache(config: Any, room: int = 0) -> DynamicCache:
    """A cache for the model of `config` whose plain layers have room for `room` tokens.

    Layers with windows, recurrent states or cross-attention stay transformers' own.
    """
    kv = DynamicCache(config=config)
    crossing = getattr(config.get_text_config(decoder=True), "cross_attention_layers", None) or ()
    kv.layers = [
        RoomyLayer(room) if type(layer) is DynamicLayer and index not in crossing else layer
        for index, layer in enumerate(kv.layers)
    ]
    return kv


def make_room(kv: Any, tokens: int) -> None:
    """Let the next token that is added make room for `tokens` at once."""
    for layer in kv.layers:
        if isinstance(layer, RoomyLayer):
            layer.room = tokens
