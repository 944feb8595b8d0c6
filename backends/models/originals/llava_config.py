"""The config of transformers' LLaVA classes for an original LLaVA checkpoint."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.errors import ModelUnsupported
from backends.models.checkpoint import read_json_if_there
from backends.models.originals.config_values import Values, is_positive, is_whole, malformed
from backends.models.originals.llava_limits import figure, is_tiled, projector_depth
from backends.text import Text, shown_name

# Of the language model: sizes that must be whole numbers, with the default of its class, and the rest.
_SIZES = {
    "llama": {"intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
    "mistral": {"intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
}
_CONTEXT = {"llama": 2048, "mistral": 131072}
_MISTRAL_KV_HEADS = 8
# Numbers above zero, and yes or no.
_POSITIVE = ("rms_norm_eps", "rope_theta")
_FLAGS = ("attention_bias", "mlp_bias", "tie_word_embeddings")
_AS_THEY_ARE = (
    *("hidden_act", "rope_scaling", "rope_parameters", "head_dim"),
    *("bos_token_id", "eos_token_id", "pad_token_id", *_POSITIVE, *_FLAGS),
)
# Ways of stretching positions, with what each needs to know.
_STRETCHED: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor", "original_max_position_embeddings"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
_FLOATS = ("float16", "bfloat16", "float32", "float64")
# CLIP's own defaults, which its configs leave out.
_VISION_SIZES = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "projection_dim": 512,
}
_VISION_AS_THEY_ARE = ("hidden_act", "layer_norm_eps")
# Every CLIP tower that was published has heads of this width.
_CLIP_HEAD = 64


def text_settings(config: Mapping[str, Any], family: str, words: int, folder: Path) -> dict[str, Any]:
    """The language model's part, for a table of `words` embeddings; ModelDamaged for impossible figures."""
    text: dict[str, Any] = {"model_type": family, "vocab_size": words}
    text["hidden_size"] = figure(config, "hidden_size", folder, 4096)
    for key, default in _SIZES[family].items():
        text[key] = figure(config, key, folder, default)
    heads = text["num_attention_heads"]
    kv_heads = figure(
        config, "num_key_value_heads", folder, heads if family == "llama" else _MISTRAL_KV_HEADS
    )
    text["num_key_value_heads"] = kv_heads
    text["max_position_embeddings"] = figure(config, "max_position_embeddings", folder, _CONTEXT[family])
    if heads % kv_heads:
        raise malformed(folder, "num_key_value_heads", kv_heads)
    if config.get("head_dim") is not None:
        figure(config, "head_dim", folder)
    elif text["hidden_size"] % heads:
        raise malformed(folder, "num_attention_heads", heads)
    _check_text(config, words, folder)
    if family == "mistral":
        # transformers 4.37, which the authors' code runs on, attends to everything whatever the config says.
        text["sliding_window"] = None
    return text | {key: config[key] for key in _AS_THEY_ARE if key in config and _says(config, key)}


def _check_text(config: Mapping[str, Any], words: int, folder: Path) -> None:
    """Raise ModelDamaged, or ModelUnsupported for a function, about what the classes would stumble over."""
    stated = Values(folder, config)
    for key in _POSITIVE:
        stated.real(key, 1.0)
    for key in _FLAGS:
        stated.flag(key, default=False)
    stated.activation("hidden_act", "silu")
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = config.get(key)
        tokens = value if key == "eos_token_id" and isinstance(value, list) else [value]
        if not all(token is None or is_whole(token) for token in tokens):
            raise stated.malformed(key)
    padding = config.get("pad_token_id")
    if padding is not None and not -words <= padding < words:  # the first models have -1, for none
        raise stated.malformed("pad_token_id")
    for key in ("rope_scaling", "rope_parameters"):
        if config.get(key) is not None and not _is_stretch(config[key]):
            raise stated.malformed(key)


def _is_stretch(value: object) -> bool:
    """Whether a value tells how positions become angles, in one of the ways that the classes know."""
    if not isinstance(value, dict):
        return False
    kind = value.get("rope_type", value.get("type", "default"))
    needed = _STRETCHED.get(kind) if isinstance(kind, str) else None
    if needed is None or not all(key in value for key in needed):
        return False
    return all(is_positive(number) for key, number in value.items() if key in ("rope_theta", *needed))


def _says(config: Mapping[str, Any], key: str) -> bool:
    """Whether a value is said: null is the class's default, but for tokens, where it is none."""
    return config[key] is not None or key.endswith("_token_id")


def vision_settings(tower: Path) -> dict[str, Any]:
    """The tower's part, of the CLIP in the folder `tower`, whole or only its vision half.

    Raises ModelUnsupported for another kind of tower, ModelDamaged for impossible figures.
    """
    config = read_json_if_there(tower / "config.json")
    kind = config.get("model_type")
    inner = next(
        (config[key] for key in ("vision_config_dict", "vision_config") if _is_object(config, key)), None
    )
    stated = inner if inner is not None and kind != "clip_vision_model" else config
    if kind not in ("clip", "clip_vision_model"):
        detail = Text.of(
            "llava.tower_kind",
            "Its vision tower {tower} is of the kind {kind}; Snug runs the original LLaVA's with CLIP.",
            tower=shown_name(tower.name),
            kind=shown_name(str(kind)),
        )
        remedy = Text(
            "llava.tower_kind_remedy",
            "Name the folder of the CLIP that it was trained with: under Custom on the page, or with --set "
            "vision_tower=PATH in a terminal.",
        )
        raise ModelUnsupported(path=str(tower), detail=detail, suggestion=remedy)
    vision: dict[str, Any] = {"model_type": "clip_vision_model"}
    for key, default in _VISION_SIZES.items():
        vision[key] = figure(stated, key, tower, default)
    if vision["hidden_size"] % vision["num_attention_heads"]:
        raise malformed(tower, "num_attention_heads", vision["num_attention_heads"])
    values = Values(tower, stated, part="" if stated is config else "vision_config")
    values.activation("hidden_act", "quick_gelu")
    values.real("layer_norm_eps", 1.0)
    return vision | {key: stated[key] for key in _VISION_AS_THEY_ARE if stated.get(key) is not None}


def inferred_vision(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
    """The tower's part from the `shapes` of one inside a checkpoint; None where they don't tell it."""
    stem = "model.vision_tower."
    patches = shapes.get(f"{stem}embeddings.patch_embedding.weight", ())
    places = shapes.get(f"{stem}embeddings.position_embedding.weight", ())
    inner = shapes.get(f"{stem}encoder.layers.0.mlp.fc1.weight", ())
    if len(patches) != 4 or len(places) != 2 or len(inner) != 2 or patches[0] % _CLIP_HEAD:
        return None
    norm = f"{stem}encoder.layers."
    layers = sum(name.startswith(norm) and name.endswith(".layer_norm1.weight") for name in shapes)
    return {
        "model_type": "clip_vision_model",
        "hidden_size": patches[0],
        "intermediate_size": inner[0],
        "num_hidden_layers": layers,
        "num_attention_heads": patches[0] // _CLIP_HEAD,
        "num_channels": patches[1],
        "image_size": math.isqrt(places[0] - 1) * patches[2],
        "patch_size": patches[2],
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    }


def native_config(
    config: Mapping[str, Any], text: dict[str, Any], vision: dict[str, Any], placeholder: int, folder: Path
) -> dict[str, Any]:
    """config.json of the native class. Raises as `is_tiled` and `projector_depth`; ModelDamaged."""
    tiled = is_tiled(config, folder)
    layer = config.get("mm_vision_select_layer", -2)
    most = vision["num_hidden_layers"]
    if isinstance(layer, bool) or not isinstance(layer, int) or not -most - 1 <= layer <= most:
        raise malformed(folder, "mm_vision_select_layer", layer)
    side = vision["image_size"] // vision["patch_size"]
    whole = config.get("mm_vision_select_feature") == "cls_patch"
    native: dict[str, Any] = {
        "architectures": ["LlavaNextForConditionalGeneration" if tiled else "LlavaForConditionalGeneration"],
        "model_type": "llava_next" if tiled else "llava",
        "text_config": text,
        "vision_config": vision,
        "image_token_index": placeholder,
        "image_seq_length": side * side + whole,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": layer,
        "vision_feature_select_strategy": "full" if whole else "default",
        "multimodal_projector_bias": True,
        "tie_word_embeddings": bool(text.get("tie_word_embeddings")),
    }
    depth = projector_depth(config, folder)
    if depth != 2:  # a class of ours computes it then
        native["projector_depth"] = depth
    if tiled:
        native["image_grid_pinpoints"] = [[height, width] for width, height in pinpoints(config, folder)]
    if config.get("torch_dtype") in _FLOATS:
        native["dtype"] = config["torch_dtype"]
    return native


def pinpoints(config: Mapping[str, Any], folder: Path) -> list[tuple[int, int]]:
    """The sizes (width, height) that tiles are laid out in. Raises ModelDamaged when they are none."""
    stated = config.get("image_grid_pinpoints")
    try:
        found: Any = ast.literal_eval(stated) if isinstance(stated, str) else stated
        pairs = [(width, height) for width, height in found]
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        pairs = []
    whole = all(type(side) is int and 0 < side < 1 << 20 for pair in pairs for side in pair)
    if not pairs or not whole:
        raise malformed(folder, "image_grid_pinpoints", stated)
    return pairs


def _is_object(config: Mapping[str, Any], key: str) -> bool:
    return isinstance(config.get(key), dict) and bool(config[key])
