"""Checkpoints in their authors' own layouts: enough is read to plan with them before Snug can load them.

CogVLM and CogVLM2 (a config without model_type) and ChatGLM2/3 come with program code that today's
transformers can't run. Their headers tell every size; ChatGLM's parts map one to one to transformers' GLM.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from backends.text import Text

_COGVLM, _CHATGLM = "cogvlm", "chatglm"
# What ChatGLM calls the parts of GlmForCausalLM, outermost first.
_CHATGLM_PARTS = (
    ("transformer.embedding.word_embeddings", "model.embed_tokens"),
    ("transformer.encoder.layers", "model.layers"),
    ("transformer.encoder.final_layernorm", "model.norm"),
    ("transformer.output_layer", "lm_head"),
    ("transformer.", "model."),
)
_CHATGLM_INSIDE = (
    (".self_attention.query_key_value.", ".self_attn.qkv_proj."),
    (".self_attention.dense.", ".self_attn.o_proj."),
    (".mlp.dense_h_to_4h.", ".mlp.gate_up_proj."),
    (".mlp.dense_4h_to_h.", ".mlp.down_proj."),
)


def original_family(config: Mapping[str, Any]) -> str | None:
    """Return `cogvlm` or `chatglm` for a config of their authors; never judged by the folder's name."""
    stated = config.get("architectures")
    classes = stated if isinstance(stated, list) else []
    vision = config.get("vision_config")
    if "CogVLMForCausalLM" in classes and isinstance(vision, dict) and "num_positions" in vision:
        return _COGVLM
    ours = {"ChatGLMModel", "ChatGLMForConditionalGeneration"}.intersection(map(str, classes))
    if ours and config.get("model_type") == _CHATGLM and "multi_query_group_num" in config:
        return _CHATGLM
    return None


def in_common_words(config: Mapping[str, Any], family: str) -> dict[str, Any]:
    """The config with the keys under which transformers' families keep the same figures."""
    found = {**config, "model_type": family}
    if family == _COGVLM and "num_multi_query_heads" in config:
        # CogVLM2: grouped keys and values; a convolution of stride 2 makes one token of four patches.
        found |= {"num_key_value_heads": config["num_multi_query_heads"], "spatial_merge_size": 2}
    return found


def original_names(names: Iterable[str], family: str) -> Mapping[str, str]:
    """Map every tensor name of the file to the module path that it will have once loaded."""
    return {name: _chatglm_name(name) if family == _CHATGLM else name for name in names}


def not_yet(architecture: str) -> Text:
    """Why the model can be planned with but not loaded."""
    return Text.of(
        "original.not_yet",
        "{architecture} is in its authors' own layout: Snug can plan with it, but can't load it yet.",
        architecture=architecture,
    )


def _chatglm_name(name: str) -> str:
    for old, new in _CHATGLM_PARTS:
        if name.startswith(old):
            name = new + name[len(old) :]
            break
    for old, new in _CHATGLM_INSIDE:
        name = name.replace(old, new)
    return name
