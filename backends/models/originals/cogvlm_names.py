"""The tensors of a CogVLM checkpoint: every name that Snug's class has, with its shape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.errors import ModelDamaged
from backends.models.originals.complete import check_layers, is_training_state, missing, surplus
from backends.models.types import Tensor
from backends.text import Text

_Shapes = dict[str, tuple[int, ...]]
# Checkpoints store the rotation's frequencies; where one does not, they are computed.
_FREQUENCIES = "self_attn.rotary_emb.inv_freq"


def checked_names(folder: Path, native: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[str]:
    """The names in `tensors` that the class of the `native` config loads.

    Raises ModelDamaged when some are absent, of another size, or nothing that the class has.
    """
    layers = native["num_hidden_layers"]
    check_layers(folder, tensors, "model.layers.", layers)
    shapes = expected_shapes(native)
    lacking = [name for name in shapes if name not in tensors and not name.endswith(_FREQUENCIES)]
    if lacking:
        raise missing(folder, lacking, len(shapes))
    for name, shape in shapes.items():
        if name in tensors and tensors[name].shape != shape:
            raise _other_shape(folder, tensors[name], shape)
    beyond = [name for name in tensors if name not in shapes and not is_training_state(name)]
    if beyond:
        raise surplus(folder, beyond)
    return [name for name in tensors if name in shapes]


def expected_shapes(native: Mapping[str, Any]) -> _Shapes:
    """Every tensor that the class of the `native` config has, by its name."""
    width, rows = native["hidden_size"], native["vocab_size"]
    shapes: _Shapes = {"model.embed_tokens.weight": (rows, width)}
    for number in range(native["num_hidden_layers"]):
        shapes |= _decoder_layer(f"model.layers.{number}.", native)
    return shapes | {"model.norm.weight": (width,)} | _tower(native) | {"lm_head.weight": (rows, width)}


def _decoder_layer(stem: str, native: Mapping[str, Any]) -> _Shapes:
    width, inner, heads = native["hidden_size"], native["intermediate_size"], native["num_attention_heads"]
    size = width // heads
    fused = (heads + 2 * native["num_key_value_heads"]) * size
    shapes: _Shapes = {f"{stem}{_FREQUENCIES}": ((size + 1) // 2,)}
    for kind in ("vision", "language"):
        shapes[f"{stem}self_attn.{kind}_expert_query_key_value.weight"] = (fused, width)
        shapes[f"{stem}self_attn.{kind}_expert_dense.weight"] = (width, width)
        for part in ("gate", "up"):
            shapes[f"{stem}mlp.{kind}_mlp.{part}_proj.weight"] = (inner, width)
        shapes[f"{stem}mlp.{kind}_mlp.down_proj.weight"] = (width, inner)
    if native["vision_qkv_bias"]:
        shapes[f"{stem}self_attn.vision_expert_query_key_value.bias"] = (fused,)
    for norm in ("input_layernorm", "post_attention_layernorm"):
        shapes[f"{stem}{norm}.weight"] = (width,)
    return shapes


def _tower(native: Mapping[str, Any]) -> _Shapes:
    tower, width, inner = native["vision_config"], native["hidden_size"], native["intermediate_size"]
    seen, patch, merge = tower["hidden_size"], tower["patch_size"], native["spatial_merge_size"]
    stem = "model.vision."
    shapes: _Shapes = {
        f"{stem}boi": (1, 1, width),
        f"{stem}eoi": (1, 1, width),
        f"{stem}patch_embedding.cls_embedding": (1, seen),
        f"{stem}patch_embedding.position_embedding.weight": (tower["num_positions"], seen),
        f"{stem}patch_embedding.proj.weight": (seen, tower["in_channels"], patch, patch),
        f"{stem}patch_embedding.proj.bias": (seen,),
        f"{stem}linear_proj.linear_proj.weight": (width, seen),
        f"{stem}linear_proj.norm1.weight": (width,),
        f"{stem}linear_proj.norm1.bias": (width,),
        f"{stem}linear_proj.gate_proj.weight": (inner, width),
        f"{stem}linear_proj.dense_h_to_4h.weight": (inner, width),
        f"{stem}linear_proj.dense_4h_to_h.weight": (width, inner),
    }
    if merge > 1:
        shapes |= _biased(f"{stem}conv", (seen, seen, merge, merge))
    for number in range(tower["num_hidden_layers"]):
        layer = f"{stem}transformer.layers.{number}."
        shapes |= _biased(f"{layer}attention.query_key_value", (3 * seen, seen))
        shapes |= _biased(f"{layer}attention.dense", (seen, seen))
        shapes |= _biased(f"{layer}mlp.fc1", (tower["intermediate_size"], seen))
        shapes |= _biased(f"{layer}mlp.fc2", (seen, tower["intermediate_size"]))
        shapes |= _biased(f"{layer}input_layernorm", (seen,))
        shapes |= _biased(f"{layer}post_attention_layernorm", (seen,))
    return shapes


def _biased(name: str, shape: tuple[int, ...]) -> _Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _other_shape(folder: Path, tensor: Tensor, wants: tuple[int, ...]) -> ModelDamaged:
    detail = Text.of(
        "cogvlm.shape",
        "{tensor} is {has} in {file}, and config.json makes it {wants}.",
        tensor=tensor.name,
        has=" x ".join(map(str, tensor.shape)) or "1",
        file=tensor.file,
        wants=" x ".join(map(str, wants)),
    )
    return ModelDamaged(
        path=str(folder), detail=detail, file=Text("originals.files", "config.json and the weight files")
    )
