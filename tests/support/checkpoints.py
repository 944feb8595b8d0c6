"""Writes checkpoints of published shapes: configs and headers, without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.shapes import Shapes, clip, decoder, write_file, write_model

_CLIP_LARGE = {"hidden": 1024, "intermediate": 4096, "layers": 24, "image": 336, "patch": 14}
_CLIP_CONFIG = {
    "hidden_size": 1024,
    "image_size": 336,
    "intermediate_size": 4096,
    "model_type": "clip_vision_model",
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "patch_size": 14,
    "projection_dim": 768,
    "vocab_size": 32000,
}


def _projector(prefix: str, inner: int, hidden: int) -> Shapes:
    return {
        f"{prefix}linear_1.weight": (hidden, inner),
        f"{prefix}linear_1.bias": (hidden,),
        f"{prefix}linear_2.weight": (hidden, hidden),
        f"{prefix}linear_2.bias": (hidden,),
    }


def llava_15_7b(folder: Path, **changes: Any) -> Path:
    """llava-hf/llava-1.5-7b-hf: 7.06 B parameters, fp16, with the layout and the sparse config published."""
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": 32000,
        "projector_hidden_act": "gelu",
        "text_config": {
            "_name_or_path": "lmsys/vicuna-7b-v1.5",
            "architectures": ["LlamaForCausalLM"],
            "max_position_embeddings": 4096,
            "model_type": "llama",
            "rms_norm_eps": 1e-05,
            "torch_dtype": "float16",
            "vocab_size": 32064,
        },
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "vision_config": _CLIP_CONFIG,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "vocab_size": 32064,
    }
    shapes = {
        **_projector("multi_modal_projector.", 1024, 4096),
        **clip("vision_tower.vision_model.", **_CLIP_LARGE),
        **decoder(
            "language_model.model.",
            hidden=4096,
            intermediate=11008,
            layers=32,
            queries=4096,
            keys=4096,
            vocab=32064,
            head="language_model.lm_head.weight",
        ),
    }
    return write_model(folder, config, shapes, shards=3, **changes)


def llava_16_mistral_7b(folder: Path, **changes: Any) -> Path:
    """llava-hf/llava-v1.6-mistral-7b-hf: anyres tiles, grouped keys and values, bf16."""
    config = {
        "architectures": ["LlavaNextForConditionalGeneration"],
        "model_type": "llava_next",
        "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
        "text_config": {"model_type": "mistral", "max_position_embeddings": 32768, "num_key_value_heads": 8},
        "vision_config": _CLIP_CONFIG,
        "vision_feature_select_strategy": "default",
    }
    shapes = {
        "image_newline": (4096,),
        **_projector("multi_modal_projector.", 1024, 4096),
        **clip("vision_tower.vision_model.", **_CLIP_LARGE),
        **decoder(
            "language_model.model.",
            hidden=4096,
            intermediate=14336,
            layers=32,
            queries=4096,
            keys=1024,
            vocab=32064,
            head="language_model.lm_head.weight",
        ),
    }
    return write_model(folder, config, shapes, dtype="BF16", shards=4, **changes)


def qwen25_vl_7b(folder: Path, **changes: Any) -> Path:
    """Qwen/Qwen2.5-VL-7B-Instruct: dynamic pictures, the language model and the tower side by side, bf16."""
    vision = {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    config = {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "max_position_embeddings": 128000,
        "num_attention_heads": 28,
        "num_hidden_layers": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
        "vision_config": vision,
        "vocab_size": 152064,
    }
    shapes: Shapes = {"visual.patch_embed.proj.weight": (1280, 3, 2, 14, 14)}
    for index in range(32):
        at = f"visual.blocks.{index}."
        shapes |= {
            f"{at}attn.qkv.weight": (3840, 1280),
            f"{at}attn.qkv.bias": (3840,),
            f"{at}attn.proj.weight": (1280, 1280),
            f"{at}attn.proj.bias": (1280,),
            f"{at}norm1.weight": (1280,),
            f"{at}norm2.weight": (1280,),
        }
        for part, shape in (("gate", (3420, 1280)), ("up", (3420, 1280)), ("down", (1280, 3420))):
            shapes |= {f"{at}mlp.{part}_proj.weight": shape, f"{at}mlp.{part}_proj.bias": shape[:1]}
    shapes |= {
        "visual.merger.ln_q.weight": (1280,),
        "visual.merger.mlp.0.weight": (5120, 5120),
        "visual.merger.mlp.0.bias": (5120,),
        "visual.merger.mlp.2.weight": (3584, 5120),
        "visual.merger.mlp.2.bias": (3584,),
    }
    shapes |= decoder(
        "model.",
        hidden=3584,
        intermediate=18944,
        layers=28,
        queries=3584,
        keys=512,
        vocab=152064,
        head="lm_head.weight",
        bias=True,
    )
    processor = {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "merge_size": 2}
    return write_model(folder, config, shapes, dtype="BF16", shards=5, processor=processor, **changes)


def starter_like(folder: Path, **changes: Any) -> Path:
    """A LLaVA of 4.7 M parameters with a tied head, as the bundled model is."""
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "tie_word_embeddings": True,
        "text_config": {
            "model_type": "llama",
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 3,
            "num_key_value_heads": 3,
            "head_dim": 64,
            "max_position_embeddings": 1024,
            "vocab_size": 640,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": 192,
            "intermediate_size": 768,
            "num_hidden_layers": 6,
            "num_attention_heads": 3,
            "image_size": 64,
            "patch_size": 8,
        },
        "vision_feature_select_strategy": "default",
    }
    shapes = {
        **_projector("multi_modal_projector.", 192, 192),
        **clip("vision_tower.vision_model.", hidden=192, intermediate=768, layers=6, image=64, patch=8),
        **decoder(
            "language_model.model.",
            hidden=192,
            intermediate=512,
            layers=4,
            queries=192,
            keys=192,
            vocab=640,
            head=None,
        ),
    }
    return write_model(folder, config, shapes, **{"weights": True, **changes})


def llama(folder: Path, *, layers: int = 28, vocab: int = 65024, **changes: Any) -> Path:
    """A text model of ChatGLM3-6B's shape (6.2 B parameters), in Llama's layout."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 13696,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
        "vocab_size": vocab,
    }
    shapes = decoder(
        "model.",
        hidden=4096,
        intermediate=13696,
        layers=layers,
        queries=4096,
        keys=256,
        vocab=vocab,
        head="lm_head.weight",
    )
    return write_model(folder, config, shapes, **changes)


def cogvlm_17b(folder: Path, **changes: Any) -> Path:
    """THUDM/cogvlm-chat-hf in its authors' layout: an expert for pictures in every layer, EVA2-CLIP, bf16."""
    config = {
        "architectures": ["CogVLMForCausalLM"],
        "auto_map": {"AutoModelForCausalLM": "modeling_cogvlm.CogVLMForCausalLM"},
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "max_position_embeddings": 2048,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "template_version": "chat",
        "tie_word_embeddings": False,
        "vision_config": {
            "hidden_size": 1792,
            "image_size": 490,
            "intermediate_size": 15360,
            "num_heads": 16,
            "num_hidden_layers": 63,
            "num_positions": 1226,
            "patch_size": 14,
        },
        "vocab_size": 32000,
    }
    shapes: Shapes = {"model.embed_tokens.weight": (32000, 4096)}
    for index in range(32):
        at = f"model.layers.{index}."
        for part in ("language", "vision"):
            shapes[f"{at}self_attn.{part}_expert_query_key_value.weight"] = (12288, 4096)
            shapes[f"{at}self_attn.{part}_expert_dense.weight"] = (4096, 4096)
            shapes[f"{at}mlp.{part}_mlp.gate_proj.weight"] = (11008, 4096)
            shapes[f"{at}mlp.{part}_mlp.up_proj.weight"] = (11008, 4096)
            shapes[f"{at}mlp.{part}_mlp.down_proj.weight"] = (4096, 11008)
        shapes[f"{at}self_attn.rotary_emb.inv_freq"] = (64,)
        shapes |= {
            f"{at}input_layernorm.weight": (4096,),
            f"{at}post_attention_layernorm.weight": (4096,),
        }
    shapes |= {
        "model.norm.weight": (4096,),
        "lm_head.weight": (32000, 4096),
        "model.vision.boi": (1, 1, 4096),
        "model.vision.eoi": (1, 1, 4096),
        "model.vision.linear_proj.linear_proj.weight": (4096, 1792),
        "model.vision.linear_proj.norm1.weight": (4096,),
        "model.vision.linear_proj.norm1.bias": (4096,),
        "model.vision.linear_proj.gate_proj.weight": (11008, 4096),
        "model.vision.linear_proj.dense_h_to_4h.weight": (11008, 4096),
        "model.vision.linear_proj.dense_4h_to_h.weight": (4096, 11008),
        "model.vision.patch_embedding.cls_embedding": (1, 1792),
        "model.vision.patch_embedding.position_embedding.weight": (1226, 1792),
        "model.vision.patch_embedding.proj.weight": (1792, 3, 14, 14),
        "model.vision.patch_embedding.proj.bias": (1792,),
    }
    for index in range(63):
        at = f"model.vision.transformer.layers.{index}."
        for part, shape in (
            ("attention.query_key_value", (5376, 1792)),
            ("attention.dense", (1792, 1792)),
            ("mlp.fc1", (15360, 1792)),
            ("mlp.fc2", (1792, 15360)),
        ):
            shapes |= {f"{at}{part}.weight": shape, f"{at}{part}.bias": shape[:1]}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes |= {f"{at}{norm}.weight": (1792,), f"{at}{norm}.bias": (1792,)}
    return write_model(folder, config, shapes, dtype="BF16", shards=8, **changes)


def chatglm3_6b(folder: Path, **changes: Any) -> Path:
    """THUDM/chatglm3-6b in its authors' layout: 6.24 B parameters, two groups of keys and values, fp16."""
    config = {
        "architectures": ["ChatGLMModel"],
        "auto_map": {"AutoModelForCausalLM": "modeling_chatglm.ChatGLMForConditionalGeneration"},
        "ffn_hidden_size": 13696,
        "hidden_size": 4096,
        "kv_channels": 128,
        "model_type": "chatglm",
        "multi_query_attention": True,
        "multi_query_group_num": 2,
        "num_attention_heads": 32,
        "num_layers": 28,
        "padded_vocab_size": 65024,
        "seq_length": 8192,
        "tie_word_embeddings": False,
    }
    shapes: Shapes = {
        "transformer.embedding.word_embeddings.weight": (65024, 4096),
        "transformer.rotary_pos_emb.inv_freq": (32,),
        "transformer.encoder.final_layernorm.weight": (4096,),
        "transformer.output_layer.weight": (65024, 4096),
    }
    for index in range(28):
        at = f"transformer.encoder.layers.{index}."
        shapes |= {
            f"{at}input_layernorm.weight": (4096,),
            f"{at}self_attention.query_key_value.weight": (4608, 4096),
            f"{at}self_attention.query_key_value.bias": (4608,),
            f"{at}self_attention.dense.weight": (4096, 4096),
            f"{at}post_attention_layernorm.weight": (4096,),
            f"{at}mlp.dense_h_to_4h.weight": (27392, 4096),
            f"{at}mlp.dense_4h_to_h.weight": (4096, 13696),
        }
    return write_model(folder, config, shapes, shards=7, **changes)


def lora(folder: Path, base: str, *, rank: int = 128, layers: int = 32, hidden: int = 4096) -> Path:
    """A LoRA over the attention of a 7B decoder: PEFT's config and the header of its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    shapes: Shapes = {}
    for index in range(layers):
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            at = f"base_model.model.model.language_model.layers.{index}.self_attn.{part}"
            shapes |= {f"{at}.lora_A.weight": (rank, hidden), f"{at}.lora_B.weight": (hidden, rank)}
    write_file(folder / "adapter_model.safetensors", shapes)
    return folder
