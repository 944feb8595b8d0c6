"""A small random language model behind a checkpoint's own tower and projector, as transformers has it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn.functional import log_softmax
from transformers import (
    AutoConfig,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)
from transformers.utils import logging as transformers_logging

END, PICTURE = 0, 1
LETTERS = "abcdefghijklmnopqrstuvwxyz"
_FIRST_LETTER = 2
# The library wants at least one pair that is merged; nobody writes it.
_PAIR = ("0", "1")
_WORDS = ("<|end|>", "<image>", *LETTERS, "Ċ", *_PAIR, "".join(_PAIR))
_SEED = 20
# How unlike each other random queries make tokens: enough for a head to tell one patch from the next.
_SHARPNESS = 3.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt around a picture: letters before it, and letters behind it, each of which is predicted."""

    before: str
    after: str


def ids(text: str) -> list[int]:
    """Token ids of letters."""
    return [_FIRST_LETTER + LETTERS.index(letter) for letter in text]


def words() -> int:
    """Number of words."""
    return len(_WORDS)


class Reference:
    """The model in transformers, in 32 bits: the checkpoint's tower and projector, the rest random."""

    def __init__(self, folder: Path, threads: int) -> None:
        """Read the tower and the projector from the checkpoint in `folder`. Raises what transformers does."""
        torch.set_num_threads(threads)
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        config = _config(AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False))
        model, info = LlavaForConditionalGeneration.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # the language model's, which are all replaced below
            output_loading_info=True,
        )
        lost = [str(name) for name in (*info["missing_keys"], *info["mismatched_keys"])]
        if any("vision_tower" in name or "projector" in name for name in lost):
            raise ValueError(f"{lost[0]} is missing")
        self.model: Any = model.eval()
        self.side = int(config.vision_config.image_size)
        self.patches = (self.side // int(config.vision_config.patch_size)) ** 2
        _randomize(self.model)

    def write_language_model(self, folder: Path) -> None:
        """Write the random part as a checkpoint of its own."""
        folder.mkdir(parents=True)
        config = self.model.config.text_config.to_dict()
        config |= {"architectures": ["LlamaForCausalLM"], "eos_token_id": END, "tie_word_embeddings": False}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        (folder / "tokenizer.json").write_text(json.dumps(_tokenizer()), encoding="utf-8")
        weights = {
            f"model.{name}": part for name, part in self.model.model.language_model.state_dict().items()
        }
        weights["lm_head.weight"] = self.model.lm_head.weight.detach()
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    def log_probabilities(
        self, image: Image.Image, mean: Sequence[float], std: Sequence[float], asked: Asked
    ) -> list[list[float]]:
        """Of the word that follows each letter of `asked.after`; `image` has the tower's size."""
        numbers = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(
            image.height, image.width, 3
        )
        pixels = (numbers.float() / 255 - torch.tensor(mean)) / torch.tensor(std)
        prompt = [*ids(asked.before), *[PICTURE] * self.patches, *ids(asked.after)]
        tokens = torch.tensor([prompt])
        with torch.inference_mode():
            logits = self.model(
                input_ids=tokens,
                pixel_values=pixels.permute(2, 0, 1)[None].contiguous(),
                attention_mask=torch.ones_like(tokens),
                use_cache=False,
                logits_to_keep=len(asked.after),
            ).logits
        found: list[list[float]] = log_softmax(logits[0, -len(asked.after) :].double(), dim=-1).tolist()
        return found


def write_tiny_checkpoint(folder: Path) -> None:
    """A LLaVA with a tiny random tower, whose class token and positions matter."""
    torch.manual_seed(_SEED)
    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=64,
        patch_size=8,
    )
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=_language(128, 128), image_token_id=PICTURE)
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 or "class_embedding" in name:
                fan_in = parameter.numel() // parameter.shape[0] if parameter.ndim > 1 else 1
                parameter.normal_(0.0, 1.0 if "embedding." in name or fan_in == 1 else 1.5 * fan_in**-0.5)
    model.save_pretrained(folder)
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 64},
        "crop_size": {"height": 64, "width": 64},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")


def _config(own: Any) -> LlavaConfig:
    vision = own.vision_config
    patches = (int(vision.image_size) // int(vision.patch_size)) ** 2
    return LlavaConfig(
        vision_config=vision,
        text_config=_language(int(own.text_config.hidden_size), patches + 128),
        image_token_id=PICTURE,
        projector_hidden_act=own.projector_hidden_act,
        vision_feature_select_strategy=own.vision_feature_select_strategy,
        vision_feature_layer=own.vision_feature_layer,
        multimodal_projector_bias=own.multimodal_projector_bias,
        tie_word_embeddings=False,
    )


def _language(hidden: int, context: int) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=hidden,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=64,
        vocab_size=len(_WORDS),
        max_position_embeddings=context,
        pad_token_id=END,
        bos_token_id=None,
        eos_token_id=END,
        tie_word_embeddings=False,
    )


def _randomize(model: Any) -> None:
    """Random numbers of a size that keeps every layer's part in the outcome."""
    chance = torch.Generator().manual_seed(_SEED)
    parts = [*model.model.language_model.named_parameters(), ("head.weight", model.lm_head.weight)]
    with torch.no_grad():
        for name, parameter in parts:
            if parameter.ndim == 1:
                parameter.fill_(1.0)
                continue
            spread = parameter.shape[1] ** -0.5
            if "q_proj" in name or "k_proj" in name:
                spread *= _SHARPNESS**0.5
            elif "embed_tokens" in name:
                spread = 1.0
            elif name.startswith("head"):
                spread *= _SHARPNESS
            parameter.normal_(0.0, spread, generator=chance)


def _tokenizer() -> dict[str, Any]:
    added = [
        {"id": number, "content": _WORDS[number], "special": True, "normalized": False, "single_word": False,
         "lstrip": False, "rstrip": False}
        for number in (END, PICTURE)
    ]  # fmt: skip
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {word: number for number, word in enumerate(_WORDS)},
            "merges": [list(_PAIR)],
        },
    }
