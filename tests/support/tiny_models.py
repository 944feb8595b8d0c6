"""Tiny random checkpoints, complete with tokenizer and processor, written in the layouts that are published.

Weights are random but fixed by a seed, so that greedy answers are the same everywhere.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    LlavaProcessor,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

SPECIALS = (
    "<pad>",
    "<s>",
    "<|im_start|>",
    "<|im_end|>",
    "<image>",
    "<|endoftext|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
VOCAB = 320
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer(extra: dict[str, str] | None = None) -> Any:
    """A byte-level BPE of 256 bytes, a few merges and the special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [
        ("t", "h"),
        ("th", "e"),
        ("i", "n"),
        ("e", "r"),
        ("Ġ", "the"),
        ("r", "e"),
        ("re", "d"),
        ("o", "u"),
    ]
    tokens = [*SPECIALS, *letters, *("".join(pair) for pair in merges)]
    core = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(SPECIALS))
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<pad>", extra_special_tokens=extra or {}
    )


def text_config(layers: int = 3, **changes: Any) -> LlamaConfig:
    """A Llama of width 64 with grouped-query attention."""
    values: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCAB,
        "max_position_embeddings": 2048,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 3,
    }
    return LlamaConfig(**(values | changes))


def _vision_config() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )


def _unspoken() -> list[int]:
    """Tokens that no answer should hold: special ones but for the end, halves of characters, unused ids."""
    tokens = make_tokenizer()
    spoken = [index for index in range(len(SPECIALS), len(tokens)) if tokens.decode([index]).isascii()]
    return sorted(set(range(VOCAB)) - {*spoken, SPECIALS.index("<|im_end|>")})


def _sharpen(model: Any) -> Any:
    """Spread the logits of a random model, so that greedy decoding is not a walk along ties."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0.0, 0.12)
        model.get_output_embeddings().weight[_unspoken()] = 0.0
    return model.eval()


def write_llava(
    folder: Path, *, dtype: torch.dtype = torch.float32, chat_template: str | None = CHATML
) -> Path:
    """LLaVA-1.5 in the key layout that llava-hf publishes, 16 tokens a picture."""
    torch.manual_seed(7)
    config = LlavaConfig(
        vision_config=_vision_config(),
        text_config=text_config(),
        image_token_id=SPECIALS.index("<image>"),
        image_seq_length=16,
    )
    model = _sharpen(LlavaForConditionalGeneration(config)).to(dtype)
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
        tokenizer=make_tokenizer(),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_with_image(chat_template, "<image>"),
    )
    _save(folder, model, processor)
    _publish_llava_keys(folder)
    return folder


def write_llava_next(folder: Path) -> Path:
    """LLaVA-1.6 (anyres tiles)."""
    torch.manual_seed(8)
    grid = [[32, 64], [64, 32], [64, 64]]
    config = LlavaNextConfig(
        vision_config=_vision_config(),
        text_config=text_config(),
        image_token_id=SPECIALS.index("<image>"),
        image_grid_pinpoints=grid,
    )
    model = _sharpen(LlavaNextForConditionalGeneration(config))
    processor = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessorPil(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_grid_pinpoints=grid
        ),
        tokenizer=make_tokenizer(),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_with_image(CHATML, "<image>"),
    )
    _save(folder, model, processor)
    return folder


def write_gemma3(folder: Path) -> Path:
    """Gemma 3: pictures attend in both directions, layers alternate between sliding and full attention."""
    torch.manual_seed(9)
    image_id = SPECIALS.index("<|image_pad|>")
    config = Gemma3Config(
        text_config={
            **{key: value for key, value in text_config().to_dict().items() if key in _SIZES},
            "head_dim": 16,
            "sliding_window": 32,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        mm_tokens_per_image=4,
        image_token_id=image_id,
        boi_token_index=SPECIALS.index("<|vision_start|>"),
        eoi_token_index=SPECIALS.index("<|vision_end|>"),
    )
    tokenizer = make_tokenizer(
        extra={
            "boi_token": "<|vision_start|>",
            "eoi_token": "<|vision_end|>",
            "image_token": "<|image_pad|>",
        }
    )
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessorPil(size={"height": 32, "width": 32}),
        tokenizer=tokenizer,
        chat_template=_with_image(CHATML, "<|vision_start|>"),
        image_seq_length=4,
    )
    _save(folder, _sharpen(Gemma3ForConditionalGeneration(config)), processor)
    return folder


def write_llama(folder: Path) -> Path:
    """A language model without eyes, whose template takes plain strings."""
    torch.manual_seed(10)
    tokenizer = make_tokenizer()
    tokenizer.chat_template = TEXT_CHATML
    _save(folder, _sharpen(LlamaForCausalLM(text_config())), tokenizer)
    return folder


def write_mistral(folder: Path) -> Path:
    """A language model with sliding-window attention, whose KV cache can't be cut back."""
    torch.manual_seed(11)
    config = MistralConfig(
        sliding_window=48, **{k: v for k, v in text_config().to_dict().items() if k in _SIZES}
    )
    tokenizer = make_tokenizer()
    tokenizer.chat_template = TEXT_CHATML
    _save(folder, _sharpen(MistralForCausalLM(config)), tokenizer)
    return folder


_SIZES = {
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "vocab_size", "max_position_embeddings", "pad_token_id", "bos_token_id", "eos_token_id",
}  # fmt: skip

WRITERS: dict[str, Callable[[Path], Path]] = {
    "llava": write_llava,
    "llava-next": write_llava_next,
    "gemma3": write_gemma3,
    "llama": write_llama,
    "mistral": write_mistral,
}


def _with_image(template: str | None, image: str) -> str | None:
    return None if template is None else template.replace("IMAGE", image)


def _save(folder: Path, model: Any, processor: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config.eos_token_id = SPECIALS.index("<|im_end|>")
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _publish_llava_keys(folder: Path) -> None:
    """Rename the tensors to the names that llava-hf publishes."""
    path = folder / "model.safetensors"
    renamed = {}
    for key, value in load_file(path).items():
        name = key.removeprefix("model.")
        if name.startswith("vision_tower.") and not name.startswith("vision_tower.vision_model."):
            name = name.replace("vision_tower.", "vision_tower.vision_model.", 1)
        elif name.startswith("lm_head."):
            name = "language_model." + name
        elif name.startswith("language_model.") and not name.startswith(
            ("language_model.model.", "language_model.lm_head.")
        ):
            name = name.replace("language_model.", "language_model.model.", 1)
        renamed[name] = value.clone()
    save_file(renamed, path, metadata={"format": "pt"})


def shard(folder: Path, target: Path, parts: int = 3) -> Path:
    """The same checkpoint in several files with an index."""
    shutil.copytree(folder, target)
    tensors = load_file(target / "model.safetensors")
    (target / "model.safetensors").unlink()
    names = sorted(tensors)
    index: dict[str, str] = {}
    for part in range(parts):
        file = f"model-{part + 1:05d}-of-{parts:05d}.safetensors"
        chosen = {name: tensors[name] for name in names[part::parts]}
        save_file(chosen, target / file, metadata={"format": "pt"})
        index |= dict.fromkeys(chosen, file)
    document = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": index}
    (target / "model.safetensors.index.json").write_text(json.dumps(document), encoding="utf-8")
    return target
