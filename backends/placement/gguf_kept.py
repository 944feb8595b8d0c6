"""How much RAM llama.cpp gets for conversations beside the one that it read last."""

from __future__ import annotations

from backends.models.types import ModelInfo, ModuleKind

MIB = 1 << 20
_FP16 = 2
# Two pages that take turns must not read everything again: room for a picture and some questions.
_TOKENS = 1024
_LEAST_BYTES, _MOST_BYTES = 256 * MIB, 1 << 30
# More of them than anybody keeps open is of no use.
_CONVERSATIONS = 4


def kept_bytes(model: ModelInfo, context_tokens: int) -> int:
    """Bytes, in whole MiB: 256 MiB or 1,024 tokens, at most 1 GiB, and no more than four whole conversations.

    The library never exceeds it: a conversation that is larger by itself is not kept.
    """
    text = model.text
    usual = 2 * text.kv_heads * text.head_dim
    layers = [module for module in model.modules if module.kind is ModuleKind.LAYER]
    token = sum(layer.cache.per_token if layer.cache else usual for layer in layers) * _FP16
    wanted = min(_MOST_BYTES, max(_LEAST_BYTES, _TOKENS * token), _CONVERSATIONS * context_tokens * token)
    return -(-max(wanted, 1) // MIB) * MIB
