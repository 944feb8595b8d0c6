"""The GGUF file of a LLaVA's picture part (mmproj): a CLIP tower and the projector behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.conversion.fit import picture_values
from backends.conversion.language import Shapes, fitting
from backends.conversion.refusal import PICTURES, PROJECTOR, lacking, refused, tiles_refused
from backends.conversion.types import Document, Layout, Piece, Value, WeightType

_TOWER, _PROJECTOR = "model.vision_tower.", "model.multi_modal_projector."
_BLOCK = {
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
}
_GELU = {"quick_gelu": False, "gelu": True}
_FILE_TYPES = {WeightType.F32: 0, WeightType.F16: 1}


@dataclass(frozen=True, slots=True)
class Eyes:
    """A checkpoint's picture part. `config` is the whole model's, completed; `processor` the pictures' own.

    `shapes` are by the names in the loaded model.
    """

    folder: Path
    name: str
    config: Mapping[str, Any]
    processor: Mapping[str, Any]
    shapes: Shapes

    @property
    def tower(self) -> Mapping[str, Any]:
        """The tower's part of the config."""
        found = self.config.get("vision_config")
        return found if isinstance(found, dict) else {}


def picture_document(eyes: Eyes, layout: Layout, kind: WeightType) -> Document:
    """Describe the file of the picture part with positions in `layout` and matrices of `kind` (f32, f16).

    Raises ModelUnsupported for towers and projectors of other makes, ModelDamaged for missing tensors.
    """
    _check(eyes, kind)
    tower = eyes.tower
    values: dict[str, Value] = {
        "general.name": eyes.name,
        "general.type": "mmproj",
        "general.file_type": _FILE_TYPES[kind],
        "clip.has_vision_encoder": True,
        "clip.has_llava_projector": True,
        "clip.projector_type": "mlp",
        "clip.use_gelu": _GELU[str(tower["hidden_act"])],
        "clip.vision.image_size": int(tower["image_size"]),
        "clip.vision.patch_size": int(tower["patch_size"]),
        "clip.vision.embedding_length": int(tower["hidden_size"]),
        "clip.vision.feed_forward_length": int(tower["intermediate_size"]),
        "clip.vision.projection_dim": eyes.shapes[f"{_PROJECTOR}linear_2.weight"][0],
        "clip.vision.block_count": int(tower["num_hidden_layers"]),
        "clip.vision.attention.head_count": int(tower["num_attention_heads"]),
        "clip.vision.attention.layer_norm_epsilon": float(tower["layer_norm_eps"]),
        "snug.layout": layout.value,
    }
    values |= picture_values(eyes.folder, eyes.processor, int(tower["image_size"]))
    return Document("clip", values | _features(eyes), tuple(_pieces(eyes, layout, kind)))


def _check(eyes: Eyes, kind: WeightType) -> None:
    config, tower = eyes.config, eyes.tower
    if kind not in _FILE_TYPES:
        raise refused(eyes.folder, PICTURES, kind)
    if config.get("model_type") == "llava_next":
        # transformers lays the tiles' rows together, cuts the padding off and ends each row with a token
        # (576 + 24 x 49 of a wide picture); llama.cpp has one tile after the other (5 x 576).
        raise tiles_refused(eyes.folder)
    if config.get("model_type") != "llava":
        raise refused(eyes.folder, PICTURES, config.get("model_type"))
    if tower.get("model_type") != "clip_vision_model" or tower.get("hidden_act") not in _GELU:
        raise refused(eyes.folder, PICTURES, f"{tower.get('model_type')}, {tower.get('hidden_act')}")
    strategy = config.get("vision_feature_select_strategy", "default")
    if strategy != "default":
        raise refused(eyes.folder, PICTURES, strategy)
    if config.get("projector_hidden_act", "gelu") != "gelu":
        raise refused(eyes.folder, PROJECTOR, config["projector_hidden_act"])
    for name in (f"{_PROJECTOR}linear_1.weight", f"{_PROJECTOR}linear_2.weight"):
        if name not in eyes.shapes:
            raise lacking(eyes.folder, name, "*.safetensors")


def _features(eyes: Eyes) -> dict[str, Value]:
    """After how many of the tower's blocks features are taken, where that is not all but one.

    llama.cpp stops before the last block by itself, which is what LLaVA means by layer -2.
    """
    layer, blocks = eyes.config.get("vision_feature_layer", -2), int(eyes.tower["num_hidden_layers"])
    if isinstance(layer, list) and len(layer) == 1:
        layer = layer[0]
    if not isinstance(layer, int) or not -blocks - 1 <= layer <= blocks:
        raise refused(eyes.folder, PICTURES, f"vision_feature_layer {layer}")
    after = layer if layer >= 0 else blocks + 1 + layer
    return {} if after == blocks - 1 else {"clip.vision.feature_layer": (after,)}


def _pieces(eyes: Eyes, layout: Layout, kind: WeightType) -> Iterator[Piece]:
    if layout is not Layout.NO_CLASS:
        yield _piece(eyes, f"{_TOWER}embeddings.class_embedding", "v.class_embd", kind)
    yield _piece(eyes, f"{_TOWER}embeddings.patch_embedding.weight", "v.patch_embd.weight", kind)
    yield _positions(eyes, layout)
    for part in ("weight", "bias"):
        yield _piece(eyes, f"{_TOWER}pre_layrnorm.{part}", f"v.pre_ln.{part}", kind)
    for block in range(int(eyes.tower["num_hidden_layers"])):
        for old, new in _BLOCK.items():
            for part in ("weight", "bias"):
                source = f"{_TOWER}encoder.layers.{block}.{old}.{part}"
                yield _piece(eyes, source, f"v.blk.{block}.{new}.{part}", kind)
    for old, new in (("linear_1", "mm.0"), ("linear_2", "mm.2")):
        yield _piece(eyes, f"{_PROJECTOR}{old}.weight", f"{new}.weight", kind)
        yield _bias(eyes, f"{_PROJECTOR}{old}", f"{new}.bias")


def _piece(eyes: Eyes, source: str, name: str, kind: WeightType) -> Piece:
    shape = eyes.shapes.get(source)
    if shape is None:
        raise lacking(eyes.folder, source, "*.safetensors")
    return Piece(name, shape, fitting(kind, shape) if len(shape) < 3 else kind, source)


def _positions(eyes: Eyes, layout: Layout) -> Piece:
    """The table of positions: row 0 is the class token's, where there is one."""
    table = _piece(
        eyes, f"{_TOWER}embeddings.position_embedding.weight", "v.position_embd.weight", WeightType.F32
    )
    rows, width = table.shape
    if layout is Layout.PLAIN:
        return table
    kept = rows - 1 if layout is Layout.NO_CLASS else rows
    return Piece(table.name, (kept, width), table.kind, table.source, shift=1)


def _bias(eyes: Eyes, module: str, name: str) -> Piece:
    """A projector's bias; where it has none, zeros, since llama.cpp adds one always."""
    if f"{module}.bias" in eyes.shapes:
        return _piece(eyes, f"{module}.bias", name, WeightType.F32)
    size = eyes.shapes[f"{module}.weight"][0]
    return Piece(name, (size,), WeightType.F32, values=(0.0,) * size)
