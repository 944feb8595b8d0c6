"""The language model's sizes, from its tensors first and its config second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backends.errors import ModelDamaged
from backends.models.structure import Structure
from backends.models.types import Tensor, TextGeometry
from backends.text import Text

_TEXT_KEYS = ("text_config", "llm_config", "language_config")
# Attention heads of the common 7B shapes, for configs that leave the figure to the class's default.
_DEFAULT_HEAD_DIM = 128
_DEFAULT_CONTEXT = 4096


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a config that describes the language model."""
    for key in _TEXT_KEYS:
        if isinstance(config.get(key), dict):
            part: dict[str, Any] = config[key]
            return part
    inner = config.get("thinker_config")
    return text_config(inner) if isinstance(inner, dict) else config


def number(config: Mapping[str, Any], *keys: str) -> int | None:
    """Return the first believable size among `keys`: a positive integer below 2**31."""
    for key in keys:
        value = config.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31:
            return value
    return None


def text_geometry(
    config: Mapping[str, Any],
    tensors: Sequence[Tensor],
    names: Mapping[str, str],
    structure: Structure,
    *,
    folder: str,
    stated: Mapping[str, Any] | None = None,
) -> TextGeometry:
    """Derive the sizes. Raises ModelDamaged when neither the tensors nor the config tell them.

    Published configs often leave out what equals the class's default (LLaVA-1.5's text_config has no
    hidden_size at all), so shapes win over the config. `stated` is the config as it is in its file, where
    `config` has been completed: defaults alone are no statement of a size.
    """
    text = text_config(config)
    said = text if stated is None else text_config(stated)
    shapes = _first_layer(tensors, names, structure)
    embedding = _embedding(tensors, names, structure)
    hidden = embedding[1] if embedding else number(said, "hidden_size", "n_embd", "d_model")
    layers = structure.layers or number(said, "num_hidden_layers", "n_layer", "num_layers")
    if hidden is None or not layers:
        raise ModelDamaged(
            path=folder,
            detail=Text(
                "model.no_sizes", "Neither config.json nor the weight files tell the language model's sizes."
            ),
            file="config.json",
        )
    q_rows = _rows(shapes, "q_proj")
    head_dim = _head_dim(text, hidden, q_rows)
    heads = number(text, "num_attention_heads", "n_head") or max(1, (q_rows or hidden) // head_dim)
    kv_rows = _rows(shapes, "k_proj")
    stated_kv = number(text, "num_key_value_heads", "multi_query_group_num") or heads
    kv_heads = max(1, kv_rows // head_dim) if kv_rows else stated_kv
    return TextGeometry(
        hidden=hidden,
        intermediate=_intermediate(text, shapes, hidden),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=embedding[0] if embedding else number(text, "vocab_size") or 32_000,
        max_context=number(
            text, "max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"
        )
        or number(config, "max_position_embeddings")
        or _DEFAULT_CONTEXT,
        tied_embeddings=structure.tied,
    )


def _first_layer(
    tensors: Sequence[Tensor], names: Mapping[str, str], structure: Structure
) -> dict[str, tuple[int, ...]]:
    """Shapes of the first decoder layer's weights, by their path inside the layer."""
    prefix = f"{structure.root}.{structure.blocks}.0." if structure.root else f"{structure.blocks}.0."
    return {
        names[tensor.name][len(prefix) :]: tensor.shape
        for tensor in tensors
        if names[tensor.name].startswith(prefix)
    }


def _embedding(
    tensors: Sequence[Tensor], names: Mapping[str, str], structure: Structure
) -> tuple[int, int] | None:
    """Rows (vocabulary) and columns (hidden size) of the token embedding."""
    inside = f"{structure.root}." if structure.root else ""
    for tensor in tensors:
        tail = names[tensor.name][len(inside) :]
        if names[tensor.name].startswith(inside) and tail in ("embed_tokens.weight", "wte.weight"):
            return (tensor.shape[0], tensor.shape[1]) if len(tensor.shape) == 2 else None
    return None


def _rows(shapes: Mapping[str, tuple[int, ...]], part: str) -> int | None:
    for name, shape in shapes.items():
        if name.endswith(f"{part}.weight") and len(shape) == 2:
            return shape[0]
    return None


def _head_dim(text: Mapping[str, Any], hidden: int, q_rows: int | None) -> int:
    stated = number(text, "head_dim", "kv_channels")
    if stated:
        return stated
    heads = number(text, "num_attention_heads", "n_head")
    if heads:
        return max(1, (q_rows or hidden) // heads)
    return min(_DEFAULT_HEAD_DIM, q_rows or hidden)


def _intermediate(text: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], hidden: int) -> int:
    """Width of the MLP that one token passes: for mixtures of experts, of all experts it visits."""
    return max(_dense_width(text, shapes, hidden), _expert_width(text, shapes))


def visited_experts(config: Mapping[str, Any]) -> int | None:
    """How many routed experts one token passes; None where there are none."""
    text = text_config(config)
    return number(text, "num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts")


def rotates(config: Mapping[str, Any]) -> bool:
    """Whether the language model rotates queries and keys by position: its class has settings for it."""
    text = text_config(config)
    if text.get("position_embedding_type", "rope") in (None, "nope", "learned", "absolute"):
        return False
    return "vocab_size" not in text or any(name.startswith(("rope", "rotary")) for name in text)


def _expert_width(text: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Width of the experts that one token passes together, the shared ones included."""
    visited = visited_experts(text)
    stated = number(text, "moe_intermediate_size", "expert_ffn_hidden_size")
    if stated is None and any(".experts." in f".{name}" for name in shapes):
        stated = number(text, "intermediate_size")
    if not stated or not visited:
        return 0
    shared = number(text, "shared_expert_intermediate_size") or 0
    return stated * (visited + (number(text, "n_shared_experts", "num_shared_experts") or 0)) + shared


def _dense_width(text: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], hidden: int) -> int:
    for part in ("gate_proj", "up_proj", "fc1", "c_fc", "dense_h_to_4h"):
        rows = _rows(shapes, f"mlp.{part}")
        if rows:
            return rows
    fused = _rows(shapes, "gate_up_proj")
    if fused:
        return fused // 2
    if any(".experts." in f".{name}" for name in shapes):
        return 0
    return number(text, "intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size") or 4 * hidden
