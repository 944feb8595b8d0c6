"""Tiny random checkpoints of the families that are converted for llama.cpp, with tokenizers of each kind."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tests.support.tiny_models import SPECIALS, TEXT_CHATML, make_tokenizer

QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
LLAMA3 = QWEN2.replace(r"\p{N}| ?", r"\p{N}{1,3}| ?")
CORPUS = (
    "How many people are wearing red in this picture? Three of them are, and one is wearing a blue hat.",
    "A chat between a curious user and an artificial intelligence assistant. USER: ASSISTANT: Hello there!",
    "The assistant gives helpful, detailed, and polite answers to the user's questions.\nNumbers 12 345.",
    "那只猫在桌子下面睡觉。 What is the colour of the circle next to the square? It is dark green.",
)
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def split_tokenizer(expression: str) -> PreTrainedTokenizerFast:
    """The tiny byte-level tokenizer with another rule that splits text."""
    plain = make_tokenizer()
    core: Tokenizer = plain._tokenizer
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(expression), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<pad>")


def pieces(*, unigram: bool = False) -> bytes:
    """A SentencePiece model as Llama's: pairs, bytes for what is unknown, `<unk> <s> </s>` first."""
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 4),
        model_writer=made,
        vocab_size=420,
        model_type="unigram" if unigram else "bpe",
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return made.getvalue()


def vicuna_tokenizer(folder: Path, model: bytes, *, legacy: bool | None = None) -> PreTrainedTokenizerFast:
    """Write tokenizer.json and its settings as a conversion of SentencePiece's `model` has them."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    words = [processor.id_to_piece(number) for number in range(processor.get_piece_size())]
    ids = {text: number for number, text in enumerate(words)}
    merges: list[tuple[float, int, int, str, str]] = []
    for text, number in ids.items():
        if processor.is_byte(number) or processor.is_control(number) or processor.is_unknown(number):
            continue
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in ids and right in ids:
                merges.append((-processor.get_score(number), ids[left], ids[right], left, right))
    core = Tokenizer(
        BPE(
            vocab=ids,
            merges=[(left, right) for *_, left, right in sorted(merges)],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    core.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.add_special_tokens(["<unk>", "<s>", "</s>", "<image>"])
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    core.save(str(folder / "tokenizer.json"))
    settings: dict[str, Any] = {
        "tokenizer_class": "LlamaTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
    }
    if legacy is not None:
        settings["legacy"] = legacy
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return PreTrainedTokenizerFast.from_pretrained(folder)


def write_text(
    folder: Path, kind: type[Any], config: Any, tokenizer: Any | None, *, seed: int = 3, spread: float = 0.12
) -> Path:
    """A random language model; vectors (norms, biases) are random, too."""
    torch.manual_seed(seed)
    model = kind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, spread) if parameter.ndim > 1 else parameter.add_(
                torch.randn_like(parameter) * 0.1
            )
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.chat_template = TEXT_CHATML
        tokenizer.save_pretrained(folder)
    return folder


def _ends(**more: Any) -> dict[str, Any]:
    return SIZES | {"vocab_size": 320, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 3} | more


def write_llama(folder: Path) -> Path:
    """A Llama with a head of its own, heads of an unusual size and biases."""
    config = LlamaConfig(**_ends(head_dim=32, attention_bias=True))
    return write_text(folder, LlamaForCausalLM, config, make_tokenizer())


def write_llama3(folder: Path) -> Path:
    """A Llama 3 with a tied head and stretched positions."""
    stretched = {
        "rope_type": "llama3",
        "rope_theta": 500.0,
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    config = LlamaConfig(**_ends(tie_word_embeddings=True, rope_parameters=stretched))
    return write_text(folder, LlamaForCausalLM, config, split_tokenizer(LLAMA3))


def write_linear(folder: Path) -> Path:
    """A Llama whose positions are divided, in the form of older configs."""
    write_text(folder, LlamaForCausalLM, LlamaConfig(**_ends()), make_tokenizer())
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    del config["rope_parameters"]
    config |= {"rope_theta": 2000.0, "rope_scaling": {"type": "linear", "factor": 2.0}}
    path.write_text(json.dumps(config), encoding="utf-8")
    return folder


def write_yarn(folder: Path) -> Path:
    """A Qwen2 stretched by YaRN."""
    stretched = {
        "rope_type": "yarn",
        "rope_theta": 1000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 128,
    }
    config = Qwen2Config(**_ends(rope_parameters=stretched))
    return write_text(folder, Qwen2ForCausalLM, config, split_tokenizer(QWEN2))


def write_mistral(folder: Path) -> Path:
    """A Mistral with a window that is shorter than its context."""
    return write_text(
        folder, MistralForCausalLM, MistralConfig(**_ends(sliding_window=256)), make_tokenizer()
    )


def write_qwen2(folder: Path) -> Path:
    """A Qwen2: biases of q, k and v, and its own rule for splitting text."""
    return write_text(folder, Qwen2ForCausalLM, Qwen2Config(**_ends()), split_tokenizer(QWEN2))


def write_vicuna(folder: Path, *, legacy: bool | None = None) -> Path:
    """A Vicuna: SentencePiece's words, a text that begins with `<s>`, a table longer than its words."""
    model = pieces()
    tokenizer = vicuna_tokenizer(folder, model, legacy=legacy)
    (folder / "tokenizer.model").write_bytes(model)
    config = LlamaConfig(
        **SIZES, vocab_size=len(tokenizer) + 5, pad_token_id=None, bos_token_id=1, eos_token_id=2
    )
    return write_text(folder, LlamaForCausalLM, config, None)


def write_llava_of(folder: Path, text: Callable[[Path], Path]) -> Path:
    """A LLaVA around the language model that `text` writes, in the key layout of llava-hf."""
    language = text(folder.with_name(folder.name + "-language"))
    inner = json.loads((language / "config.json").read_text(encoding="utf-8"))
    torch.manual_seed(5)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=32,
            patch_size=8,
        ),
        text_config=inner,
        image_token_id=SPECIALS.index("<image>"),
        image_seq_length=16,
    )
    model = LlavaForConditionalGeneration(config)
    shutil.copytree(language, folder)
    weights = {
        "language_model." + name: value for name, value in load_file(language / "model.safetensors").items()
    }
    for name, value in model.state_dict().items():
        if "language_model" in name or name.startswith("lm_head"):
            continue
        # Contiguous copies: parts of one storage can't be saved twice.
        bare = name.removeprefix("model.").replace("vision_tower.", "vision_tower.vision_model.")
        weights[bare.replace("vision_model.vision_model.", "vision_model.")] = value.clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    return folder


WRITERS: dict[str, Callable[[Path], Path]] = {
    "llama": write_llama,
    "llama3": write_llama3,
    "linear": write_linear,
    "yarn": write_yarn,
    "mistral": write_mistral,
    "qwen2": write_qwen2,
    "vicuna": write_vicuna,
    "vicuna-legacy": lambda folder: write_vicuna(folder, legacy=True),
    "llava-mistral": lambda folder: write_llava_of(folder, write_mistral),
    "llava-qwen2": lambda folder: write_llava_of(folder, write_qwen2),
}
