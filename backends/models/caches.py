"""What each decoder layer keeps of a conversation, as transformers' caches do it, from config and headers.

A layer of full attention keeps keys and values of every token. Others keep less: those with a window its
last tokens, recurrent ones a state whose size no token changes, those that share another's cache nothing, and
those that look at pictures by cross-attention the pictures' tokens instead of the words'. The kinds are the
config's `layer_types`, read as `DynamicCache(config=...)` reads them; the widths are those of the layers' own
matrices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from backends.models.geometry import number
from backends.models.structure import Structure
from backends.models.types import LayerCache, Module, ModuleKind, Tensor, TextGeometry, VisionGeometry

Shapes = dict[str, tuple[int, ...]]
# Attention through a narrow layer (DeepSeek): what it gives out is kept, and widened again for every pass.
_NARROW = ("kv_a_proj_with_mqa", "kv_a_proj")
_KEYS, _VALUES = ("k_proj", "key_proj", "wk", "key"), ("v_proj", "value_proj", "wv", "value")
_FUSED = ("query_key_value", "qkv_proj", "c_attn", "Wqkv", "qkv")
_WITHOUT_ATTENTION = ("moe", "mlp")
_WITHOUT = frozenset({"linear_attention", "conv", "dummy"})
_WITH_STATE = frozenset({"linear_attention", "conv", "hybrid", "hybrid_sliding"})
_WINDOWED = {
    "sliding_attention": "sliding_window",
    "hybrid_sliding": "sliding_window",
    "chunked_attention": "attention_chunk_size",
}
# Sizes of a recurrent state by the names of the families that have one: heads, width of a head, of its state.
_RECURRENT = (
    ("linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim"),
    ("mamba_n_heads", "mamba_d_head", "mamba_d_state"),
    ("mamba_num_heads", "mamba_head_dim", "ssm_state_size"),
    ("n_mamba_heads", "mamba_headdim", "mamba_d_state"),
    ("num_heads", "head_dim", "state_size"),
)


def with_caches(
    modules: Sequence[Module],
    text: Mapping[str, Any],
    sizes: TextGeometry,
    vision: VisionGeometry | None,
    shapes: Mapping[str, Shapes],
) -> tuple[Module, ...]:
    """`modules` with what each decoder layer keeps, where that is not keys and values of every token.

    `text` is the language model's completed config, `sizes` what was derived from it, `shapes` those of
    each layer's tensors.
    """
    kinds = layer_kinds(text, sizes.layers)
    pictures = vision.max_tiles * vision.patches if vision else None
    found: list[Module] = []
    index = 0
    for module in modules:
        if module.kind is not ModuleKind.LAYER:
            found.append(module)
            continue
        inside = shapes.get(module.name, {})
        cache = LayerCache(
            per_token := 0 if kinds[index] in _WITHOUT else _width(inside, sizes),
            _window(text, kinds[index], index) if per_token else None,
            pictures if kinds[index] == "cross_attention" else None,
            *(_state(text, inside, kinds[index]) if kinds[index] in _WITH_STATE else ()),
        )
        usual = LayerCache(2 * sizes.kv_heads * sizes.head_dim)
        found.append(replace(module, cache=None if cache == usual else cache))
        index += 1
    return tuple(found)


def layer_kinds(text: Mapping[str, Any], layers: int) -> list[str]:
    """The kind of each layer, by the names of transformers' caches; where nothing is said, all keep all."""
    stated = text.get("layer_types")
    if isinstance(stated, list) and len(stated) == layers:
        kinds = ["dummy" if kind in _WITHOUT_ATTENTION else str(kind) for kind in stated]
    elif number(text, "sliding_window") is not None:
        kinds = ["sliding_attention"] * layers
    elif number(text, "attention_chunk_size") is not None:
        kinds = ["chunked_attention"] * layers
    else:
        kinds = ["full_attention"] * layers
    shared = text.get("kv_sharing_modes")
    if isinstance(shared, list) and len(shared) == layers:
        kinds = ["dummy" if mode == "reuse" else kind for mode, kind in zip(shared, kinds, strict=True)]
    crossing = text.get("cross_attention_layers")
    for index in crossing if isinstance(crossing, list) else []:
        if isinstance(index, int) and 0 <= index < layers:
            kinds[index] = "cross_attention"
    return kinds


def _window(text: Mapping[str, Any], kind: str, index: int) -> int | None:
    """Tokens that a layer keeps at most: its own statement, else the model's."""
    key = _WINDOWED.get(kind)
    if key is None:
        return None
    own = text.get("per_layer_config")
    layer = own.get(index, own.get(str(index))) if isinstance(own, dict) else None
    return (number(layer, key) if isinstance(layer, dict) else None) or number(text, key)


def layer_shapes(
    tensors: Sequence[Tensor], names: Mapping[str, str], structure: Structure
) -> dict[str, Shapes]:
    """Shapes by decoder layer and by path inside the layer."""
    prefix = f"{structure.root}.{structure.blocks}." if structure.root else f"{structure.blocks}."
    found: dict[str, Shapes] = {}
    for tensor in tensors:
        name = names[tensor.name]
        if structure.blocks and name.startswith(prefix):
            number_, _, inner = name[len(prefix) :].partition(".")
            inside = found.setdefault(prefix + number_, {})
            # Several tensors of the file that become one in the model stand under their own names.
            inside[inner if inner not in inside else tensor.name] = tensor.shape
    return found


def _width(shapes: Shapes, sizes: TextGeometry) -> int:
    """Numbers kept for a token: the rows of the matrices that make keys and values."""
    rows: dict[str, int] = {}
    index = 0
    for path, shape in shapes.items():
        name = path.removesuffix(".weight").rpartition(".")[2]
        if not path.endswith(".weight") or len(shape) != 2 or "vision_expert" in path:
            continue
        if "indexer" in path:  # keys of its own, by which the tokens worth looking at are found
            index += shape[0] if name in _KEYS else 0
        else:
            # GPT-2's matrices are stored the other way round.
            rows.setdefault(name, shape[1] if name == "c_attn" else shape[0])
    usual = 2 * sizes.kv_heads * sizes.head_dim
    narrow = next((rows[name] for name in _NARROW if name in rows), None)
    keys = next((rows[name] for name in _KEYS if name in rows), None)
    fused = next((rows[name] for name in _FUSED if name in rows), 0) - sizes.heads * sizes.head_dim
    if narrow is not None:
        return narrow + index
    if keys is None:
        return fused if 0 < fused < usual else usual
    # Where values have no matrix of their own they are the keys once more (Gemma 4), and kept once more.
    return keys + next((rows[name] for name in _VALUES if name in rows), keys) + index


def _state(text: Mapping[str, Any], shapes: Shapes, kind: str) -> tuple[int, int]:
    """Numbers that a layer keeps whatever the tokens: a convolution's inputs, and a recurrent state.

    A short convolution keeps as many inputs as its kernel has, for each channel. Mamba's decay has a number
    for each of its state's; others tell heads and widths. Linear attention that says nothing keeps a square
    for each head.
    """
    convolved = sum(
        shape[0] * shape[2] for path, shape in shapes.items() if "conv" in path and len(shape) == 3
    )
    decay = next((shape for path, shape in shapes.items() if path.endswith("A_log")), None)
    if decay is None and kind != "linear_attention":
        return convolved, 0
    if decay is not None and len(decay) == 2:
        return convolved, math.prod(decay)
    for names in _RECURRENT if decay else ():
        found = [number(text, name) for name in names]
        if None not in found:
            return convolved, math.prod(size or 0 for size in found)
    heads = max(decay) if decay else number(text, "num_attention_heads") or 1
    queries = next((shape[0] for path, shape in shapes.items() if path.endswith("q_proj.weight")), 0)
    queries = queries or heads * (number(text, "head_dim") or 0)
    return convolved, queries**2 // heads
