"""Tells checkpoints in their authors' own layouts apart by their configs, never by a folder's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COGVLM, _CHATGLM = "cogvlm", "chatglm"


def original_family(config: Mapping[str, Any]) -> str | None:
    """Return `cogvlm` or `chatglm` for a config of their authors."""
    stated = config.get("architectures")
    classes = stated if isinstance(stated, list) else []
    vision = config.get("vision_config")
    if "CogVLMForCausalLM" in classes and isinstance(vision, dict) and "num_positions" in vision:
        return _COGVLM
    ours = {"ChatGLMModel", "ChatGLMForConditionalGeneration"}.intersection(map(str, classes))
    if ours and config.get("model_type") == _CHATGLM and "multi_query_group_num" in config:
        return _CHATGLM
    return None


def in_common_words(config: Mapping[str, Any]) -> dict[str, Any]:
    """CogVLM's config with the keys under which transformers' families keep the same figures."""
    found = {**config, "model_type": _COGVLM}
    if "num_multi_query_heads" in config:
        # CogVLM2: grouped keys and values; a convolution of stride 2 makes one token of four patches.
        found |= {"num_key_value_heads": config["num_multi_query_heads"], "spatial_merge_size": 2}
    return found
