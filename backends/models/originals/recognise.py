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
