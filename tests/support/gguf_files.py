"""GGUF files made of headers (weights, where asked for, are zeros): the shapes of published models."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from backends.models.ggml_types import FILE_TYPES, TYPES

Shape: TypeAlias = tuple[int, ...]
# (name, torch's shape, type)
Entry: TypeAlias = tuple[str, Shape, str]

_NUMBERS = {kind.name: number for number, kind in TYPES.items()}
_MIXTURES = {name: number for number, name in FILE_TYPES.items()}
_U8, _I32, _U32, _F32, _BOOL, _TEXT, _ARRAY = 0, 5, 4, 6, 7, 8, 9


def text_bytes(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def value_bytes(value: Any) -> bytes:
    """A value's type and itself."""
    match value:
        case bool():
            return struct.pack("<I?", _BOOL, value)
        case int():
            return struct.pack("<II" if value >= 0 else "<Ii", _U32 if value >= 0 else _I32, value)
        case float():
            return struct.pack("<If", _F32, value)
        case str():
            return struct.pack("<I", _TEXT) + text_bytes(value)
    items = list(value)
    kind, code = _TEXT, ""
    if items and not isinstance(items[0], str):
        kind, code = {bool: (_BOOL, "?"), int: (_I32, "i"), float: (_F32, "f")}[type(items[0])]
    body = (
        struct.pack(f"<{len(items)}{code}", *items) if code else b"".join(text_bytes(item) for item in items)
    )
    return struct.pack("<IIQ", _ARRAY, kind, len(items)) + body


def tensor_bytes(shape: Shape, kind: str) -> int:
    found = TYPES[_NUMBERS[kind]]
    return math.prod(shape) // found.block * found.nbytes


def gguf_bytes(
    metadata: Mapping[str, Any] | Sequence[tuple[str, Any]],
    tensors: Iterable[Entry],
    *,
    weights: bool = False,
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    """A whole file; without `weights` it ends where they would begin."""
    pairs = list(metadata.items()) if isinstance(metadata, Mapping) else list(metadata)
    entries = list(tensors)
    head = b"GGUF" + struct.pack("<IQQ", version, len(entries), len(pairs))
    head += b"".join(text_bytes(key) + value_bytes(value) for key, value in pairs)
    offset = 0
    for name, shape, kind in entries:
        head += text_bytes(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
        head += struct.pack("<IQ", _NUMBERS[kind], offset)
        offset += -(-tensor_bytes(shape, kind) // alignment) * alignment
    head += bytes(-len(head) % alignment)
    return head + bytes(offset if weights else 0)


def write_gguf(path: Path, metadata: Mapping[str, Any], tensors: Iterable[Entry], **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gguf_bytes(metadata, tensors, **more))
    return path


def decoder(
    family: str = "llama",
    *,
    layers: int = 32,
    hidden: int = 4096,
    heads: int = 32,
    kv_heads: int | None = None,
    head_dim: int | None = None,
    intermediate: int = 11008,
    vocab: int = 32064,
    kind: str = "q4_k",
    head_kind: str | None = "q6_k",
    file_type: str = "q4_k_m",
    experts: int = 0,
    visited: int = 0,
    words: int = 4,
    context: int = 4096,
    more: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], list[Entry]]:
    """Metadata and tensors of a language model; `head_kind` None ties the head to the embedding."""
    keys, size = kv_heads or heads, head_dim or hidden // heads
    metadata: dict[str, Any] = {
        "general.architecture": family,
        "general.file_type": _MIXTURES[file_type],
        f"{family}.block_count": layers,
        f"{family}.context_length": context,
        f"{family}.embedding_length": hidden,
        f"{family}.feed_forward_length": intermediate,
        f"{family}.attention.head_count": heads,
        f"{family}.attention.head_count_kv": keys,
        f"{family}.attention.key_length": size,
        f"{family}.attention.value_length": size,
        f"{family}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{family}.rope.dimension_count": size,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": [f"word{index}" for index in range(words)],
        "tokenizer.ggml.token_type": [1] * words,
        "tokenizer.chat_template": "{{ messages }}",
    }
    if experts:
        metadata |= {f"{family}.expert_count": experts, f"{family}.expert_used_count": visited}
    tensors: list[Entry] = [("token_embd.weight", (vocab, hidden), kind)]
    for layer in range(layers):
        block = f"blk.{layer}"
        tensors += [
            (f"{block}.attn_norm.weight", (hidden,), "f32"),
            (f"{block}.attn_q.weight", (heads * size, hidden), kind),
            (f"{block}.attn_k.weight", (keys * size, hidden), kind),
            (f"{block}.attn_v.weight", (keys * size, hidden), kind),
            (f"{block}.attn_output.weight", (hidden, heads * size), kind),
            (f"{block}.ffn_norm.weight", (hidden,), "f32"),
        ]
        if experts:
            tensors += [
                (f"{block}.ffn_gate_inp.weight", (experts, hidden), "f32"),
                (f"{block}.ffn_gate_exps.weight", (experts, intermediate, hidden), kind),
                (f"{block}.ffn_up_exps.weight", (experts, intermediate, hidden), kind),
                (f"{block}.ffn_down_exps.weight", (experts, hidden, intermediate), kind),
            ]
        else:
            tensors += [
                (f"{block}.ffn_gate.weight", (intermediate, hidden), kind),
                (f"{block}.ffn_up.weight", (intermediate, hidden), kind),
                (f"{block}.ffn_down.weight", (hidden, intermediate), kind),
            ]
    tensors.append(("output_norm.weight", (hidden,), "f32"))
    if head_kind is not None:
        tensors.append(("output.weight", (vocab, hidden), head_kind))
    return metadata | dict(more or {}), tensors


def tower(
    projector: str = "mlp",
    *,
    width: int = 4096,
    layers: int = 23,
    hidden: int = 1024,
    intermediate: int = 4096,
    heads: int = 16,
    image: int = 336,
    patch: int = 14,
    kind: str = "f16",
    classes: bool = True,
    more: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], list[Entry]]:
    """Metadata and tensors of a picture part for a language model of `width`."""
    metadata: dict[str, Any] = {
        "general.architecture": "clip",
        "general.file_type": _MIXTURES[kind],
        "clip.has_vision_encoder": True,
        "clip.projector_type": projector,
        "clip.vision.image_size": image,
        "clip.vision.patch_size": patch,
        "clip.vision.embedding_length": hidden,
        "clip.vision.feed_forward_length": intermediate,
        "clip.vision.block_count": layers,
        "clip.vision.projection_dim": 768,
        "clip.vision.attention.head_count": heads,
        "clip.vision.attention.layer_norm_epsilon": 1e-5,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.25, 0.25, 0.25],
        "clip.use_gelu": False,
    }
    tensors: list[Entry] = [("v.patch_embd.weight", (hidden, 3, patch, patch), kind)]
    if classes:
        tensors.append(("v.class_embd", (hidden,), "f32"))
    tensors.append(("v.position_embd.weight", ((image // patch) ** 2 + classes, hidden), kind))
    for layer in range(layers):
        tensors += [
            (f"v.blk.{layer}.attn_{part}.weight", (hidden, hidden), kind) for part in ("q", "k", "v", "out")
        ]
        tensors += [
            (f"v.blk.{layer}.ln1.weight", (hidden,), "f32"),
            (f"v.blk.{layer}.ffn_down.weight", (intermediate, hidden), kind),
            (f"v.blk.{layer}.ffn_up.weight", (hidden, intermediate), kind),
        ]
    if projector == "gemma3":
        tensors.append(("mm.input_projection.weight", (hidden, width), kind))
    else:
        tensors += [("mm.0.weight", (width, hidden), kind), ("mm.2.weight", (width, width), kind)]
    return metadata | dict(more or {}), tensors


def llava_15_7b(folder: Path, *, pictures: bool = True, **more: Any) -> Path:
    """LLaVA-1.5-7B as Q4_K_M with its CLIP tower in 16 bits: the model's file."""
    path = write_gguf(folder / "llava-v1.5-7b-Q4_K_M.gguf", *decoder(), **more)
    if pictures:
        write_gguf(folder / "llava-v1.5-7b-mmproj-f16.gguf", *tower(), **more)
    return path


def qwen25_vl_7b(folder: Path, *, kind: str = "q8_0", words: int = 4) -> Path:
    """Qwen2.5-VL-7B as Q8_0."""
    sizes: dict[str, Any] = {"layers": 28, "hidden": 3584, "heads": 28, "kv_heads": 4, "intermediate": 18944}
    made = decoder(
        "qwen2vl",
        vocab=152064,
        kind=kind,
        head_kind=kind,
        file_type=kind,
        context=128_000,
        words=words,
        **sizes,
    )
    path = write_gguf(folder / "Qwen2.5-VL-7B-Instruct-Q8_0.gguf", *made)
    windows = {"clip.vision.n_wa_pattern": 8, "clip.vision.spatial_merge_size": 2}
    eyes = tower(
        "qwen2.5vl_merger",
        width=3584,
        layers=32,
        hidden=1280,
        intermediate=3420,
        image=560,
        classes=False,
        more=windows,
    )
    write_gguf(folder / "mmproj-Qwen2.5-VL-7B-Instruct-f16.gguf", *eyes)
    return path


def gemma3_4b(folder: Path) -> Path:
    """Gemma 3 4B as Q4_0: windows in five of six layers, a tied head of 262,208 words."""
    made = decoder(
        "gemma3",
        layers=34,
        hidden=2560,
        heads=8,
        kv_heads=4,
        head_dim=256,
        intermediate=10240,
        vocab=262_208,
        kind="q4_0",
        head_kind=None,
        file_type="q4_0",
        context=131_072,
        more={"gemma3.attention.sliding_window": 1024},
    )
    path = write_gguf(folder / "gemma-3-4b-it-Q4_0.gguf", *made)
    eyes = tower("gemma3", width=2560, layers=27, hidden=1152, intermediate=4304, image=896, classes=False)
    write_gguf(folder / "mmproj-gemma-3-4b-it-f16.gguf", *eyes)
    return path


def mixtral_8x7b(folder: Path) -> Path:
    """Mixtral 8x7B as Q4_0: two of eight experts for a token; no pictures."""
    made = decoder(
        kv_heads=8,
        intermediate=14336,
        vocab=32000,
        kind="q4_0",
        file_type="q4_0",
        experts=8,
        visited=2,
        context=32_768,
    )
    return write_gguf(folder / "mixtral-8x7b-Q4_0.gguf", *made)


# A decoder and a picture part that are written in no time.
TINY: dict[str, Any] = {
    "layers": 2, "hidden": 256, "heads": 4, "kv_heads": 2, "intermediate": 512, "vocab": 100, "kind": "q8_0",
    "head_kind": "q8_0", "file_type": "q8_0",
}  # fmt: skip
SMALL_EYES: dict[str, Any] = {"width": 256, "layers": 1, "hidden": 64, "intermediate": 128, "heads": 2}


def tiny(path: Path, family: str = "llama", **more: Any) -> Path:
    return write_gguf(path, *decoder(family, **(TINY | more)))


def eyes(path: Path, projector: str = "mlp", **more: Any) -> Path:
    return write_gguf(path, *tower(projector, **(SMALL_EYES | more)))
