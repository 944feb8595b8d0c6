"""Saves tiny models of many families with transformers and tells their real modules; run as a script.

    python -m tests.support.real_trees FOLDER

Prints one JSON object: family -> {"modules": {module path: own and inner parameters}, "parameters": total,
"names": every parameter's name}. It is a process of its own so that torch stays out of the test process.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 320,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
CLIP = {"model_type": "clip_vision_model", **VISION}
SIGLIP = {"model_type": "siglip_vision_model", **VISION}


def families() -> dict[str, tuple[str, dict[str, Any]]]:
    """Family -> (class of the model without its suffix, keyword arguments of its config)."""
    qwen_text = {**TEXT, "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6]}}
    gemma_text = {**TEXT, "head_dim": 32}
    internvl_vision = {**VISION, "image_size": [32, 32], "patch_size": [8, 8]}
    return {
        "llava-clip-llama": (
            "Llava",
            {"vision_config": CLIP, "text_config": {"model_type": "llama", **TEXT}},
        ),
        "llava-clip-mistral": (
            "Llava",
            {"vision_config": CLIP, "text_config": {"model_type": "mistral", **TEXT}},
        ),
        "llava-siglip-qwen2": (
            "Llava",
            {"vision_config": SIGLIP, "text_config": {"model_type": "qwen2", **TEXT}},
        ),
        "llava-next": (
            "LlavaNext",
            {"vision_config": CLIP, "text_config": {"model_type": "mistral", **TEXT}},
        ),
        "llava-onevision": (
            "LlavaOnevision",
            {"vision_config": SIGLIP, "text_config": {"model_type": "qwen2", **TEXT}},
        ),
        "vipllava": (
            "VipLlava",
            {
                "vision_config": CLIP,
                "text_config": {"model_type": "llama", **TEXT},
                "vision_feature_layers": [-1, -2],
            },
        ),
        "qwen2-vl": (
            "Qwen2VL",
            {
                "text_config": qwen_text,
                "vision_config": {"depth": 2, "embed_dim": 64, "hidden_size": 64, "num_heads": 2},
            },
        ),
        "qwen2.5-vl": (
            "Qwen2_5_VL",
            {
                "text_config": qwen_text,
                "vision_config": {
                    "depth": 2,
                    "hidden_size": 64,
                    "out_hidden_size": 64,
                    "num_heads": 2,
                    "intermediate_size": 128,
                },
            },
        ),
        "smolvlm": ("SmolVLM", {"text_config": {"model_type": "llama", **TEXT}, "vision_config": VISION}),
        "idefics3": ("Idefics3", {"text_config": {"model_type": "llama", **TEXT}, "vision_config": VISION}),
        "gemma3": ("Gemma3", {"text_config": gemma_text, "vision_config": SIGLIP}),
        "paligemma": (
            "PaliGemma",
            {
                "text_config": {"model_type": "gemma", **gemma_text},
                "vision_config": {**SIGLIP, "projection_dim": 64, "vision_use_head": False},
                "projection_dim": 64,
            },
        ),
        "internvl": (
            "InternVL",
            {"text_config": {"model_type": "qwen2", **TEXT}, "vision_config": internvl_vision},
        ),
        "llama": ("Llama", TEXT),
        "qwen2": ("Qwen2", TEXT),
        "qwen2-tied": ("Qwen2", {**TEXT, "tie_word_embeddings": True}),
    }


def main(folder: Path) -> None:
    """Build, save and describe every family."""
    import transformers

    transformers.logging.set_verbosity_error()
    found: dict[str, Any] = {}
    for name, (prefix, arguments) in families().items():
        config = getattr(transformers, f"{prefix}Config")(**arguments)
        kind = getattr(transformers, f"{prefix}ForConditionalGeneration", None)
        model = (kind or getattr(transformers, f"{prefix}ForCausalLM"))(config)
        model.save_pretrained(folder / name)
        found[name] = {
            "modules": {
                path: sum(part.numel() for part in module.parameters())
                for path, module in model.named_modules()
                if path
            },
            "names": {path: part.numel() for path, part in model.named_parameters()},
            "parameters": sum(part.numel() for part in model.parameters()),
        }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
    main(Path(sys.argv[1]))
