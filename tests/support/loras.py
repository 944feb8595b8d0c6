"""Tiny native models with random weights, and LoRAs over them as PEFT writes these."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file

from backends.models.originals.lora import native_lora_recipe
from backends.models.originals.types import Companions, Recipe
from tests.support.recipes import nowhere

Tensors = dict[str, torch.Tensor]
TEXT: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def llama(folder: Path, **options: Any) -> Any:
    """Text only, grouped keys and values."""
    torch.manual_seed(1)
    config = transformers.LlamaConfig(**TEXT | options)
    return kept(transformers.LlamaForCausalLM(config), folder)


def llava(folder: Path) -> Any:
    """A tower and a language model of the same width."""
    torch.manual_seed(2)
    vision = transformers.CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    text = transformers.LlamaConfig(**TEXT)
    config = transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_index=59)
    return kept(transformers.LlavaForConditionalGeneration(config), folder)


def gpt2(folder: Path) -> Any:
    """Weights stored as inputs by outputs, a tied head."""
    torch.manual_seed(3)
    config = transformers.GPT2Config(vocab_size=60, n_embd=16, n_layer=2, n_head=2, n_positions=64)
    return kept(transformers.GPT2LMHeadModel(config), folder)


def mixtral(folder: Path) -> Any:
    """Experts that loading joins."""
    torch.manual_seed(4)
    config = transformers.MixtralConfig(**TEXT, num_local_experts=3, num_experts_per_tok=2)
    return kept(transformers.MixtralForCausalLM(config), folder)


def kept(model: Any, folder: Path) -> Any:
    """The model, saved to `folder`, with weights that are not tiny."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(folder)
    return model.eval()


def pair(path: str, outputs: int, inputs: int, rank: int = 3) -> Tensors:
    """The two matrices for the module at `path`."""
    torch.manual_seed(len(path) + outputs)
    return {
        f"base_model.model.{path}.lora_A.weight": torch.randn(rank, inputs) * 0.3,
        f"base_model.model.{path}.lora_B.weight": torch.randn(outputs, rank) * 0.3,
    }


def product(tensors: Tensors, path: str, scale: float) -> torch.Tensor:
    """What they add to its weight."""
    a, b = (tensors[f"base_model.model.{path}.lora_{side}.weight"] for side in "AB")
    return scale * (b @ a)


def adapter(folder: Path, tensors: Tensors, ending: str = "safetensors", **config: Any) -> Path:
    """An adapter of rank 3 and alpha 6 beside the folder `base`."""
    folder.mkdir()
    said = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "base_model_name_or_path": "somebody/base"} | config
    (folder / "adapter_config.json").write_text(json.dumps(said), encoding="utf-8")
    if ending == "bin":
        torch.save(tensors, folder / "adapter_model.bin")
    else:
        save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def recipe(folder: Path) -> Recipe:
    """The recipe of the adapter in `folder`."""
    return native_lora_recipe(folder, Companions(), nowhere)
