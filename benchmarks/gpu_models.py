"""7B-shaped vision-language models with random weights, written on the spot, and the inputs to run them.

Needs torch and transformers only: inputs are tensors as the processors make them, not pictures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.placement.estimate import PICTURE_ROWS, STREAMED_ROWS, TEXT_ROWS

MODELS = ("llava-1.5-7b", "llava-1.6-7b", "qwen2.5-vl-7b")
# Pixels of a side: as large as one tile, and a large photograph.
SMALL, LARGE = 336, 1344
_SPREAD, _BLOCK_BYTES = 0.02, 1 << 24
_DTYPES = {"float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True, slots=True)
class Kind:
    """How a model is run: `context` tokens (None: the planner's choice), `in_pieces` like the engine."""

    name: str
    dtype: str
    context: int | None
    in_pieces: bool
    sides: tuple[int, ...]


# A LLaVA-1.5 scales every picture to 336 pixels. One large picture of LLaVA-1.6 is more than 2,048 tokens.
KINDS = {
    "llava-1.5-7b": Kind("llava-1.5-7b", "float16", 2048, in_pieces=True, sides=(SMALL,)),
    "llava-1.6-7b": Kind("llava-1.6-7b", "bfloat16", None, in_pieces=True, sides=(SMALL, LARGE)),
    "qwen2.5-vl-7b": Kind("qwen2.5-vl-7b", "bfloat16", 2048, in_pieces=False, sides=(SMALL, LARGE)),
}


def config_of(name: str) -> Any:  # noqa: ANN401 - a transformers config
    """The published sizes of a model."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaNextConfig, MistralConfig

    eyes = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
        projection_dim=768,
    )
    if name == "llava-1.5-7b":
        text = LlamaConfig(vocab_size=32064, max_position_embeddings=4096)
        return LlavaConfig(vision_config=eyes, text_config=text, image_token_id=32000)
    if name == "llava-1.6-7b":
        text = MistralConfig(vocab_size=32064, max_position_embeddings=32768, sliding_window=None)
        return LlavaNextConfig(vision_config=eyes, text_config=text, image_token_id=32000)
    if name == "qwen2.5-vl-7b":
        return _qwen()
    raise ValueError(f"there is no model {name}, only {', '.join(MODELS)}")


def _qwen() -> Any:  # noqa: ANN401 - a transformers config
    from transformers import Qwen2_5_VLConfig

    text = {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "max_position_embeddings": 128000,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    }
    eyes = {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    return Qwen2_5_VLConfig(text_config=text, vision_config=eyes, tie_word_embeddings=False)


def write_checkpoint(config: Any, dtype: str, folder: Path) -> Path:  # noqa: ANN401
    """A safetensors checkpoint of `config` under `folder`, as fast as the disk writes.

    Every tensor repeats one block of random numbers; norms are ones, biases zeros.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    folder.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    config.architectures = [type(model).__name__]
    config.dtype = dtype
    config.save_pretrained(folder)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    kind = getattr(torch, dtype)
    block = (torch.randn(_BLOCK_BYTES // 2, generator=torch.Generator().manual_seed(0)) * _SPREAD).to(kind)
    blocks = {
        "random": block.view(torch.uint8).numpy().tobytes(),
        "ones": torch.ones(1 << 20, dtype=kind).view(torch.uint8).numpy().tobytes(),
        "zeros": bytes(1 << 20),
    }
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(header(shapes, dtype))
        for name, shape in shapes.items():
            for part in _data(name, shape, blocks):
                stream.write(part)
    return folder


def header(shapes: Mapping[str, tuple[int, ...]], dtype: str) -> bytes:
    """Length and JSON of a safetensors header."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, shape in shapes.items():
        end = position + 2 * math.prod(shape)
        entries[name] = {"dtype": _DTYPES[dtype], "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    return len(text).to_bytes(8, "little") + text


def _data(name: str, shape: tuple[int, ...], blocks: Mapping[str, bytes]) -> Iterator[bytes]:
    left = 2 * math.prod(shape)
    block = blocks["zeros" if name.endswith("bias") else "ones" if len(shape) == 1 else "random"]
    while left > 0:
        yield block[:left]
        left -= min(left, len(block))


def pieces(total: int, picture_end: int, *, streamed: bool) -> list[int]:
    """Where the engine's passes over a prompt of `total` tokens end; its picture ends at `picture_end`."""
    ends: list[int] = []
    start = 0
    while picture_end - start > PICTURE_ROWS:
        start += PICTURE_ROWS
        ends.append(start)
    start = picture_end
    ends.append(start)
    rows = STREAMED_ROWS if streamed else TEXT_ROWS
    while start < total:
        start = min(total, start + rows)
        ends.append(start)
    return ends


def picture_inputs(name: str, side: int, most_tokens: int, config: Any) -> dict[str, Any]:  # noqa: ANN401
    """What the processor makes of a square of `side` pixels, `most_tokens` at most where it scales."""
    import torch

    if name == "llava-1.5-7b":
        return {"pixel_values": torch.randn(1, 3, 336, 336)}
    if name == "llava-1.6-7b":
        from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

        tiles = image_size_to_num_patches([side, side], config.image_grid_pinpoints, 336)
        return {
            "pixel_values": torch.randn(1, int(tiles), 3, 336, 336),
            "image_sizes": torch.tensor([[side, side]]),
        }
    grid = qwen_grid(side, most_tokens)
    return {
        "pixel_values": torch.randn(grid * grid, 2 * 3 * 14 * 14),
        "image_grid_thw": torch.tensor([[1, grid, grid]]),
    }


def qwen_grid(side: int, most_tokens: int) -> int:
    """Patches per side of a square picture: an even number, four patches a token, within `most_tokens`."""
    wanted = side // 28 * 2
    return max(2, min(wanted, 2 * math.isqrt(max(1, most_tokens))))
