"""Writes safetensors files of given shapes, without torch: headers only, or zeros for tiny ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Shapes = dict[str, tuple[int, ...]]
_WIDTH = {"F16": 2, "BF16": 2, "F32": 4, "I64": 8}


def nbytes(shape: tuple[int, ...], dtype: str) -> int:
    """Bytes of one tensor."""
    size = _WIDTH[dtype]
    for extent in shape:
        size *= extent
    return size


def header_bytes(shapes: Mapping[str, tuple[int, ...]], dtype: str = "F16") -> bytes:
    """The length and the JSON of a safetensors header."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, shape in shapes.items():
        end = position + nbytes(shape, dtype)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    return len(text).to_bytes(8, "little") + text


def write_file(
    path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str = "F16", *, weights: bool = False
) -> None:
    """Write one safetensors file; with `weights`, its data is zeros."""
    data = sum(nbytes(shape, dtype) for shape in shapes.values()) if weights else 0
    path.write_bytes(header_bytes(shapes, dtype) + bytes(data))


def write_model(
    folder: Path,
    config: Mapping[str, Any],
    shapes: Shapes,
    *,
    dtype: str = "F16",
    shards: int = 1,
    processor: Mapping[str, Any] | None = None,
    weights: bool = False,
) -> Path:
    """Write a model's folder: config.json, weight files (with an index when sharded), processor settings."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    if shards == 1:
        write_file(folder / "model.safetensors", shapes, dtype, weights=weights)
        return folder
    names = list(shapes)
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: shapes[name] for name in names[shard::shards]}
        write_file(folder / file, part, dtype, weights=weights)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def decoder(
    prefix: str,
    *,
    hidden: int,
    intermediate: int,
    layers: int,
    queries: int,
    keys: int,
    vocab: int,
    head: str | None,
    bias: bool = False,
) -> Shapes:
    """Tensors of a Llama-like decoder whose parts begin with `prefix`; `head` names the head's weight."""
    shapes: Shapes = {f"{prefix}embed_tokens.weight": (vocab, hidden)}
    for index in range(layers):
        at = f"{prefix}layers.{index}."
        for part, rows in (("q", queries), ("k", keys), ("v", keys)):
            shapes[f"{at}self_attn.{part}_proj.weight"] = (rows, hidden)
            if bias:
                shapes[f"{at}self_attn.{part}_proj.bias"] = (rows,)
        shapes[f"{at}self_attn.o_proj.weight"] = (hidden, queries)
        shapes[f"{at}mlp.gate_proj.weight"] = (intermediate, hidden)
        shapes[f"{at}mlp.up_proj.weight"] = (intermediate, hidden)
        shapes[f"{at}mlp.down_proj.weight"] = (hidden, intermediate)
        shapes[f"{at}input_layernorm.weight"] = (hidden,)
        shapes[f"{at}post_attention_layernorm.weight"] = (hidden,)
    shapes[f"{prefix}norm.weight"] = (hidden,)
    if head is not None:
        shapes[head] = (vocab, hidden)
    return shapes


def clip(prefix: str, *, hidden: int, intermediate: int, layers: int, image: int, patch: int) -> Shapes:
    """Tensors of a CLIP tower."""
    shapes: Shapes = {
        f"{prefix}embeddings.class_embedding": (hidden,),
        f"{prefix}embeddings.patch_embedding.weight": (hidden, 3, patch, patch),
        f"{prefix}embeddings.position_embedding.weight": ((image // patch) ** 2 + 1, hidden),
    }
    for norm in ("pre_layrnorm", "post_layernorm"):
        shapes |= {f"{prefix}{norm}.weight": (hidden,), f"{prefix}{norm}.bias": (hidden,)}
    for index in range(layers):
        at = f"{prefix}encoder.layers.{index}."
        for part in ("q", "k", "v", "out"):
            shapes[f"{at}self_attn.{part}_proj.weight"] = (hidden, hidden)
            shapes[f"{at}self_attn.{part}_proj.bias"] = (hidden,)
        shapes |= {f"{at}mlp.fc1.weight": (intermediate, hidden), f"{at}mlp.fc1.bias": (intermediate,)}
        shapes |= {f"{at}mlp.fc2.weight": (hidden, intermediate), f"{at}mlp.fc2.bias": (hidden,)}
        for norm in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{at}{norm}.weight": (hidden,), f"{at}{norm}.bias": (hidden,)}
    return shapes
