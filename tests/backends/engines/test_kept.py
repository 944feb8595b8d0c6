"""What tiny models of many kinds really hold after a long prompt is, to the byte, what a plan counts.

Each is saved, identified from its config and headers alone, and run as the engine runs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest
import torch
import transformers
from transformers.cache_utils import DYNAMIC_LAYER_TYPE_MAPPING

from backends.engines.runner import WholeRunner
from backends.engines.windows import keep_windows_small
from backends.models.identify import identify
from backends.models.types import ModuleKind

PROMPT = 150
TEXT: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 8, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 320, "max_position_embeddings": 512,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MOE = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LINEAR = {
    "linear_key_head_dim": 8, "linear_value_head_dim": 16, "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama: all tokens": ("Llama", {}),
    "Mistral with a window": ("Mistral", {"sliding_window": 20}),
    "Mistral without": ("Mistral", {"sliding_window": None}),
    "Qwen2 that states a window and uses none": (
        "Qwen2",
        {"sliding_window": 20, "use_sliding_window": False},
    ),
    "Qwen2 with windows above layer 3": (
        "Qwen2",
        {"sliding_window": 20, "use_sliding_window": True, "max_window_layers": 3},
    ),
    "Gemma 2: every other": ("Gemma2", {"sliding_window": 20}),
    "gpt-oss: every other": ("GptOss", {"sliding_window": 20, **MOE}),
    "Qwen3-Next: three of four recurrent": ("Qwen3Next", {**MOE, **LINEAR}),
    "LFM2: short convolutions": ("Lfm2", {"full_attn_idxs": [2, 5]}),
    "Falcon-H1: both at once": (
        "FalconH1",
        {
            "mamba_d_ssm": 64,
            "mamba_n_heads": 8,
            "mamba_d_head": 8,
            "mamba_d_state": 16,
            "mamba_chunk_size": 16,
        },
    ),
}


@pytest.fixture(autouse=True)
def small_windows() -> Iterator[None]:
    before = dict(DYNAMIC_LAYER_TYPE_MAPPING)
    keep_windows_small()
    yield
    DYNAMIC_LAYER_TYPE_MAPPING.update(before)


def held(layer: Any) -> int:
    """Bytes of everything that a layer of a cache holds on to."""
    parts = [getattr(layer, "keys", None), getattr(layer, "values", None)]
    for name in ("conv_states", "recurrent_states"):
        parts += list((getattr(layer, name, None) or {}).values())
    tensors = [part for part in parts if isinstance(part, torch.Tensor)]
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


def run(made: Any, **inputs: torch.Tensor) -> list[int]:
    """What each layer holds after the prompt and one token more."""
    runner = WholeRunner(made, torch.device("cpu"), torch.float32)
    ids = torch.arange(PROMPT).remainder(300).unsqueeze(0)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **inputs}
    runner.start(inputs, PROMPT + 1, Flag())
    runner.step(5)
    return [held(layer) for layer in runner._state["past_key_values"].layers]


def planned(made: Any, folder: Path, images: int = 0) -> list[int]:
    made.save_pretrained(folder)
    model = identify(folder)
    usual = 2 * model.text.kv_heads * model.text.head_dim * 4 * (PROMPT + 1)
    layers = [module for module in model.modules if module.kind is ModuleKind.LAYER]
    return [layer.cache.nbytes(PROMPT + 1, images, 4) if layer.cache else usual for layer in layers]


@pytest.mark.parametrize("kind", KINDS)
def test_each_layer_holds_what_is_planned(kind: str, tmp_path: Path) -> None:
    name, sizes = KINDS[kind]
    torch.manual_seed(1)
    config = getattr(transformers, f"{name}Config")(**{**TEXT, **sizes})
    made = getattr(transformers, f"{name}ForCausalLM")(config).eval()

    assert run(made) == planned(made, tmp_path / "m")


@pytest.mark.parametrize("images", [0, 1])
def test_mllama_holds_the_words_in_some_layers_and_the_picture_in_others(images: int, tmp_path: Path) -> None:
    torch.manual_seed(1)
    text = {key: value for key, value in TEXT.items() if key != "head_dim"} | {
        "cross_attention_layers": [1, 4]
    }
    vision = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_global_layers": 1, "attention_heads": 2,
        "intermediate_size": 64, "image_size": 28, "patch_size": 14, "max_num_tiles": 4,
        "intermediate_layers_indices": [0], "vision_output_dim": 64,
    }  # fmt: skip
    config = transformers.MllamaConfig(text_config=text, vision_config=vision, image_token_index=319)
    made = transformers.MllamaForConditionalGeneration(config).eval()
    pictures = {
        "pixel_values": torch.zeros((1, 1, 4, 3, 28, 28)),
        "aspect_ratio_ids": torch.ones((1, 1), dtype=torch.long),
        "aspect_ratio_mask": torch.ones((1, 1, 4), dtype=torch.long),
        "cross_attention_mask": torch.ones((1, PROMPT, 1, 4), dtype=torch.long),
    }

    found = run(made, **(pictures if images else {}))

    assert found == planned(made, tmp_path / "m", images)
    # Five patches a tile: four and the class.
    assert found[1] == found[4] == images * 2 * 2 * 16 * 4 * 4 * 5
