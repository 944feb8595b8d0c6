"""Saves tiny models of many families with transformers and tells their real modules; run as a script.

    python -m tests.support.real_trees FOLDER

Prints one JSON object: family -> {"modules": {module path: own and inner parameters}, "parameters": total,
"names": every parameter's name}; for the families of `published()`, whose default configs are of real size,
only shapes are made (on torch's meta device, four layers deep), and "shapes" and "config" are printed for
header-only copies. It is a process of its own so that torch stays out of the test process.
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


def published() -> tuple[str, ...]:
    """Model types that are built from their default configs."""
    return (
        *("llava", "llava_next", "llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl"),
        *("smolvlm", "paligemma", "gemma3", "gemma4", "glm4v", "mllama", "phi4_multimodal", "minicpmv4_6"),
        *("llama4", "mistral3", "idefics2", "aria", "cohere2_vision", "ovis2", "janus", "lfm2_vl"),
        *("kimi_k25", "molmo2", "qianfan_ocr", "ernie4_5_vl_moe", "shieldgemma2", "cosmos3_edge"),
        *("mixtral", "qwen2_moe", "qwen3_moe", "qwen3_vl_moe", "deepseek_v2", "gpt_oss", "olmoe", "phimoe"),
        # Names that no rule of ours was written for: numbered blocks tell what is what.
        *(
            "gpt2",
            "bloom",
            "falcon",
            "mpt",
            "codegen",
            "olmo_hybrid",
            "muse_glimmer",
            "pp_chart2table",
            "glm",
            "gpt_neox",
            "jamba",
            "bailing_hybrid",
        ),
    )


def on_meta(family: str) -> dict[str, Any]:
    """Build the default config, cut to four layers, without memory; names and shapes as it is saved."""
    import torch
    import transformers
    from transformers.models.auto import modeling_auto

    config = transformers.models.auto.configuration_auto.CONFIG_MAPPING[family]()
    _cut(config)
    both = {
        **modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        **modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    }
    with torch.device("meta"):
        model = getattr(transformers, both[family])(config)
    return describe(model)


def describe(model: Any) -> dict[str, Any]:
    """A model's config, modules, and names and shapes as it is saved."""
    from transformers.core_model_loading import revert_weight_conversion
    from transformers.modeling_utils import remove_tied_weights_from_state_dict

    state = dict(model.state_dict())
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = {name: tensor.numel() for name, tensor in state.items() if name not in parameters}
    saved = revert_weight_conversion(model, remove_tied_weights_from_state_dict(state, model))
    names = {name: part.numel() for name, part in model.named_parameters()} | buffers
    return {
        "config": json.loads(model.config.to_json_string(use_diff=False))
        | {"architectures": [type(model).__name__]},
        "shapes": {name: list(tensor.shape) for name, tensor in saved.items()},
        "modules": {
            path: sum(part.numel() for part in module.parameters())
            + sum(count for name, count in buffers.items() if name.startswith(f"{path}."))
            for path, module in model.named_modules()
            if path
        },
        "names": names,
        "parameters": sum(names.values()),
        "no_split": [
            path
            for path, module in model.named_modules()
            if type(module).__name__ in (model._no_split_modules or ())
        ],
    }


def _cut(config: Any) -> None:
    """Four layers are enough to tell a stack by."""
    for name in ("num_hidden_layers", "depth", "num_layers", "n_layer", "n_layers"):
        if isinstance(getattr(config, name, None), int) and getattr(config, name) > 4:
            setattr(config, name, 4)
    for name, value in list(vars(config).items()):
        if name in ("layer_types", "mlp_layer_types") and isinstance(value, list):
            setattr(config, name, value[:4])
        elif hasattr(value, "to_dict"):
            _cut(value)


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
    for family in published():
        found[f"published {family}"] = on_meta(family)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
    main(Path(sys.argv[1]))
