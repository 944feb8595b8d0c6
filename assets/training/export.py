"""Write a trained checkpoint as a plain llava-hf model folder.

    python -m assets.training.export --folder RUNS --out assets/starter

Weights go out as fp16 safetensors under the published key names. One extra vision layer is added
that changes nothing (its two output projections are zero), so that engines that take the last
hidden state and engines that take the one before it see the same features.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
)

from assets.training.loop import load
from assets.training.model import IMAGE_SIZE, PATCH_SIZE, Sizes
from assets.training.tokens import (
    CHAT_TEMPLATE,
    END,
    END_ID,
    IMAGE,
    IMAGE_ID,
    PAD,
    PAD_ID,
    START,
    tokenizer_at,
)

TOWER = "vision_tower.vision_model."


def published_weights(trained: dict[str, Tensor], sizes: Sizes) -> dict[str, Tensor]:
    """The checkpoint's tensors plus the layer that changes nothing, fp16."""
    weights = {k: v for k, v in trained.items() if not k.startswith("patch_head")}
    last = f"{TOWER}encoder.layers.{sizes.vision_layers - 1}."
    for name in [name for name in weights if name.startswith(last)]:
        copy = weights[name].clone()
        if "out_proj" in name or "fc2" in name:
            copy.zero_()
        weights[f"{TOWER}encoder.layers.{sizes.vision_layers}.{name.removeprefix(last)}"] = copy
    weights[f"{TOWER}post_layernorm.weight"] = torch.ones(sizes.vision_width)
    weights[f"{TOWER}post_layernorm.bias"] = torch.zeros(sizes.vision_width)
    return {name: value.to(torch.float16).contiguous() for name, value in sorted(weights.items())}


def config(sizes: Sizes) -> LlavaConfig:
    """The configuration that transformers reads."""
    vision = CLIPVisionConfig(
        hidden_size=sizes.vision_width,
        intermediate_size=sizes.vision_mlp,
        projection_dim=sizes.vision_width,
        num_hidden_layers=sizes.vision_layers + 1,
        num_attention_heads=sizes.vision_width // sizes.head,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        hidden_act="quick_gelu",
    )
    text = LlamaConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.text_width,
        intermediate_size=sizes.text_mlp,
        num_hidden_layers=sizes.text_layers,
        num_attention_heads=sizes.text_width // sizes.head,
        num_key_value_heads=sizes.text_width // sizes.head,
        head_dim=sizes.head,
        max_position_embeddings=sizes.context,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": sizes.rope_theta},
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=END_ID,
        pad_token_id=PAD_ID,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=IMAGE_ID,
        image_seq_length=(IMAGE_SIZE // PATCH_SIZE) ** 2,
        projector_hidden_act="gelu",
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
        multimodal_projector_bias=True,
        tie_word_embeddings=False,
        architectures=["LlavaForConditionalGeneration"],
        dtype="float16",
    )


def write_processor(out: Path, tokenizer_file: Path, sizes: Sizes) -> None:
    """Tokenizer, image processor and chat template."""
    tokenizer_at(tokenizer_file).save(str(out / "tokenizer.json"))
    _write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END,
            "pad_token": PAD,
            "additional_special_tokens": [START, IMAGE],
            "clean_up_tokenization_spaces": False,
            "model_max_length": sizes.context,
        },
    )
    image: dict[str, Any] = {
        "image_processor_type": "LlavaImageProcessor",
        "do_convert_rgb": True,
        "do_pad": True,
        "do_resize": True,
        "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        "resample": 3,
        "do_center_crop": False,
        "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    _write_json(out / "preprocessor_config.json", image)
    _write_json(
        out / "processor_config.json",
        {
            "processor_class": "LlavaProcessor",
            "patch_size": PATCH_SIZE,
            "num_additional_image_tokens": 1,
            "vision_feature_select_strategy": "default",
            "image_token": IMAGE,
        },
    )
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8", newline="\n")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8", newline="\n")


def export(checkpoint: Path, tokenizer_file: Path, out: Path) -> None:
    """Write the whole folder; the weights go in last, by renaming."""
    sizes = Sizes()
    out.mkdir(parents=True, exist_ok=True)
    config(sizes).save_pretrained(out)
    GenerationConfig(
        do_sample=False, eos_token_id=END_ID, pad_token_id=PAD_ID, max_new_tokens=128
    ).save_pretrained(out)
    write_processor(out, tokenizer_file, sizes)
    partial = out / "model.safetensors.partial"
    weights = published_weights(load(checkpoint)["model"], sizes)
    save_file(weights, partial, metadata={"format": "pt"})
    partial.chmod(0o644)
    partial.replace(out / "model.safetensors")


def main() -> None:
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--stage", default="polish", help="whose checkpoint to publish")
    parser.add_argument("--out", type=Path, default=Path("assets/starter"))
    options = parser.parse_args()
    checkpoint = options.folder / options.stage / "checkpoint.pt"
    export(checkpoint, options.folder / "tokenizer.json", options.out)


if __name__ == "__main__":
    main()
