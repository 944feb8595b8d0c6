"""Compares the sizes that config.json states with those of the tensors: loading refuses what contradicts.

Rules go by what a tensor does, never by the family. A figure that the config leaves out is the class's
default and says nothing here; tensors that are packed (quantized checkpoints) have other shapes by design.
Families give single layers other sizes (every fourth attends globally, some MLPs are wider) and pad single
tables, so only a size that no layer, or neither table, has is a contradiction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.errors import ModelDamaged
from backends.models.geometry import number, text_config
from backends.models.structure import Structure
from backends.models.types import Tensor
from backends.text import Text, shown_name

_Sizes = tuple[int, ...]

_WHOLE = frozenset({"bfloat16", "float16", "float32", "float64", "float8_e4m3fn", "float8_e5m2"})
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight")
# Where these are stated, the token table is narrower, or longer, than the plain figure says.
_OTHER_WIDTH = ("word_embed_proj_dim", "embedding_size")
_OTHER_ROWS = ("padded_vocab_size", "pad_vocab_size_multiple", "additional_vocab_size")

_HIDDEN = Text("consistency.hidden", "the hidden size")
_VOCAB = Text("consistency.vocab", "the size of the vocabulary")
_KEYS = Text("consistency.keys", "the width of the attention's keys (heads times their size)")
_QKV = Text("consistency.qkv", "the width of queries, keys and values together")
_MLP = Text("consistency.mlp", "the width of the MLP")
_VISION = Text("consistency.vision", "the width of the vision tower")


@dataclass(frozen=True, slots=True)
class _Finding:
    """What the config states beside the tensor that has another size."""

    what: Text
    stated: int
    tensor: str
    found: int


def check_sizes(
    path: Path,
    config: Mapping[str, Any],
    tensors: Sequence[Tensor],
    names: Mapping[str, str],
    built: Structure,
) -> None:
    """Raise ModelDamaged for the first figure of config.json that the weight files contradict.

    `names` maps the files' tensor names to those of the loaded model, `built` is its structure.
    """
    parts = _Parts(tensors, names, built)
    text = text_config(config)
    for finding in (*_tables(text, parts), *_layers(text, parts), *_tower(config, parts)):
        detail = Text.of(
            "consistency.contradiction",
            "config.json says {stated:count} for {what}, but {tensor} in the weight files has {found:count}.",
            stated=finding.stated,
            what=finding.what,
            tensor=shown_name(finding.tensor),
            found=finding.found,
        )
        files = Text("model.all_files", "config.json and the weight files")
        raise ModelDamaged(path=str(path), detail=detail, file=files)


class _Parts:
    """The tensors that rules ask for, by what they do; names are those of the file."""

    def __init__(self, tensors: Sequence[Tensor], names: Mapping[str, str], built: Structure) -> None:
        root = f"{built.root}." if built.root else ""
        blocks = f"{root}{built.blocks}."
        self.tables: dict[str, tuple[str, _Sizes]] = {}
        self.layers: dict[str, list[tuple[str, _Sizes]]] = {}
        self.patches: list[tuple[str, _Sizes]] = []
        self.experts = False
        for tensor in tensors:
            name = names[tensor.name]
            if tensor.dtype not in _WHOLE:
                continue
            if built.blocks and name.startswith(blocks):
                self.experts = self.experts or ".experts." in name
                tail = name[len(blocks) :].partition(".")[2]
                self.layers.setdefault(tail, []).append((tensor.name, tensor.shape))
            elif name.startswith(root) and name[len(root) :] in _EMBEDDINGS and len(tensor.shape) == 2:
                self.tables["embedding"] = (tensor.name, tensor.shape)
            elif name == "lm_head.weight" and len(tensor.shape) == 2:
                self.tables["head"] = (tensor.name, tensor.shape)
            elif name.endswith(".patch_embedding.weight") and len(tensor.shape) == 4:
                self.patches.append((tensor.name, tensor.shape))

    def matrices(self, *tails: str) -> list[tuple[str, _Sizes]]:
        """Every layer's matrix that ends with one of `tails`, for example `mlp.up_proj.weight`."""
        return [
            found
            for tail, entries in self.layers.items()
            if tail in tails
            for found in entries
            if len(found[1]) == 2
        ]


def _tables(text: Mapping[str, Any], parts: _Parts) -> Iterator[_Finding]:
    """The token embedding, and the head beside it."""
    hidden, vocab = number(text, "hidden_size", "n_embd", "d_model"), number(text, "vocab_size")
    embedding = parts.tables.get("embedding")
    if hidden and embedding and not _states(text, _OTHER_WIDTH):
        yield from _contradiction(_HIDDEN, hidden, [embedding], axis=1)
    if vocab and not _states(text, _OTHER_ROWS):
        yield from _contradiction(_VOCAB, vocab, parts.tables.values(), axis=0)


def _layers(text: Mapping[str, Any], parts: _Parts) -> Iterator[_Finding]:
    """Attention and MLP of the decoder layers."""
    heads, shared = number(text, "num_attention_heads", "n_head"), number(text, "num_key_value_heads")
    keys, fused = parts.matrices("self_attn.k_proj.weight"), parts.matrices("self_attn.qkv_proj.weight")
    size = number(text, "head_dim") or _head_size(heads, parts)
    if shared and size and not {shape[0] for _, shape in keys} & _other_keys(text):
        yield from _contradiction(_KEYS, shared * size, keys, axis=0)
    if shared and heads and not keys:  # beside plain layers, fused ones are of another kind
        width = number(text, "head_dim") or (number(text, "hidden_size") or 0) // heads
        yield from _contradiction(_QKV, (heads + 2 * shared) * width, fused, axis=0)
    inner = number(text, "intermediate_size")
    if inner and not parts.experts:  # with experts the figure may be theirs, or that of the dense layers
        yield from _contradiction(_MLP, inner, parts.matrices("mlp.up_proj.weight"), axis=0)
        yield from _contradiction(_MLP, inner, parts.matrices("mlp.gate_up_proj.weight"), axis=0, halves=2)


def _other_keys(text: Mapping[str, Any]) -> set[int]:
    """Widths that layers of other kinds may have: sliding ones (`swa_...`), or those of a part of its own."""
    parts = [text, *(part for part in text.values() if isinstance(part, dict))]

    def figures(*endings: str) -> set[int]:
        found = [(key, number(part, key)) for part in parts for key in part if key.endswith(endings)]
        return {value for key, value in found if value and key != "num_key_value_heads"}

    counts, sizes = figures("key_value_heads", "num_heads"), figures("head_dim")
    return {count * size for count in counts for size in sizes}


def _head_size(heads: int | None, parts: _Parts) -> int | None:
    """The size of a head where the config leaves it to the class: what the queries make of it."""
    queries = parts.matrices("self_attn.q_proj.weight")
    rows = {shape[0] for _, shape in queries}
    if not heads or len(rows) != 1:
        return None
    width = rows.pop()
    return width // heads if width % heads == 0 else None


def _tower(config: Mapping[str, Any], parts: _Parts) -> Iterator[_Finding]:
    """The vision tower's first convolution."""
    vision = config.get("vision_config")
    if not isinstance(vision, dict):
        return
    width = number(vision, "hidden_size")
    if width:
        yield from _contradiction(_VISION, width, parts.patches, axis=0)


def _contradiction(
    what: Text, stated: int, found: Iterable[tuple[str, _Sizes]], *, axis: int, halves: int = 1
) -> Iterator[_Finding]:
    """A finding unless one of `found` has the stated size along `axis`, `halves` of which lie together."""
    entries = [(name, shape[axis]) for name, shape in found]
    if stated and entries and all(size != stated * halves for _, size in entries):
        name, size = entries[0]
        yield _Finding(what, stated * halves, name, size)


def _states(text: Mapping[str, Any], keys: Iterable[str]) -> bool:
    return any(number(text, key) for key in keys)
