"""The architectures of GGUF files that are planned for: decoders whose layers keep keys and values."""

from __future__ import annotations

import difflib
from pathlib import Path

from backends.errors import ModelUnsupported
from backends.models.gguf_header import GgufHeader
from backends.text import Text, shown_name

# llama.cpp's names. Left out: recurrent and mixed ones (mamba, rwkv, jamba, lfm2, ...), whose state this
# version does not count, and encoders (bert, t5encoder, ...), which don't answer.
_ARCHITECTURES = frozenset(
    (
        *("llama", "llama4", "deci", "falcon", "baichuan", "grok", "gpt2", "gptj", "gptneox", "mpt"),
        *("starcoder", "starcoder2", "refact", "bloom", "stablelm", "qwen", "qwen2", "qwen2moe", "qwen2vl"),
        *("qwen3", "qwen3moe", "qwen3vl", "qwen3vlmoe", "phi2", "phi3", "phimoe", "plamo", "codeshell"),
        *("orion", "internlm2", "minicpm", "minicpm3", "gemma", "gemma2", "gemma3", "gemma3n", "gemma4"),
        *("xverse", "command-r", "cohere2", "dbrx", "olmo", "olmo2", "olmoe", "openelm", "arctic"),
        *("deepseek", "deepseek2", "chatglm", "glm4", "glm4moe", "bitnet", "jais", "nemotron", "exaone"),
        *("exaone4", "granite", "granitemoe", "chameleon", "plm", "bailingmoe", "bailingmoe2", "dots1"),
        *("arcee", "ernie4_5", "ernie4_5-moe", "hunyuan-moe", "hunyuan-dense", "hunyuan_vl", "smollm3"),
        *("gpt-oss", "smallthinker", "seed_oss", "apertus", "minimax-m2", "cogvlm", "mistral3", "mistral4"),
        "paddleocr",
    )
)
# Every how many layers one keeps all tokens; the others keep a window (llama.cpp sets these itself).
_FULL_EVERY = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "gpt-oss": 2, "cohere2": 4}


def check_architecture(path: Path, family: str) -> None:
    """Raise ModelUnsupported for an architecture that can't be planned for."""
    if family in _ARCHITECTURES:
        return
    near = difflib.get_close_matches(family, _ARCHITECTURES, n=1, cutoff=0.75)
    raise ModelUnsupported(
        path=str(path),
        detail=Text.of(
            "gguf.architecture",
            "Its architecture, {family}, is not one that this version can plan for as a GGUF file.",
            family=shown_name(family),
        ),
        suggestion=Text.of("model.nearest_type", "The nearest known one is {near}.", near=near[0])
        if near
        else Text(
            "gguf.architecture_remedy",
            "Use a model such as LLaVA, Qwen2.5-VL, Gemma 3 or Llama, or this one with config.json and "
            ".safetensors files.",
        ),
    )


def windowed_layers(header: GgufHeader, family: str, layers: int) -> list[bool]:
    """Which layers keep a window of tokens only: as the file says, else as llama.cpp knows the family.

    Families that are not listed are counted as keeping everything, which is never too little.
    """
    stated = header.values.get(f"{family}.attention.sliding_window_pattern")
    if isinstance(stated, tuple) and len(stated) == layers:
        return [bool(item) for item in stated]
    every = stated if type(stated) is int else _FULL_EVERY.get(family, 1)
    every = max(1, every)
    return [index % every < every - 1 for index in range(layers)]
