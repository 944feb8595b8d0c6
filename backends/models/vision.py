"""The vision tower's sizes and how many tokens a picture becomes, by the rules of each family's processor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backends.models.geometry import number
from backends.models.naming import block_of, is_vision
from backends.models.types import Tensor, VisionGeometry

_VISION_KEYS = ("vision_config", "visual", "vision_tower_config")
# Longest side of a stored picture (backends.settings.max_image_side): no processor sees more pixels.
_LARGEST_PIXELS = 2048 * 2048
# No tower or tile is larger; a config that says so is wrong, and is read as if it said nothing.
_LARGEST_SIDE = 1 << 14
# How many times wider than its input an MLP may be for the config to be believed.
_WIDEST = 64
# LLaVA-OneVision's `anyres_max_9`: more than nine tiles' worth of features is scaled down.
_ONEVISION_TILES = 9
_SIGNS = ("image_seq_length", "num_image_tokens", "image_seq_len")


@dataclass(frozen=True, slots=True)
class _Tower:
    """What the rules need of the tower; `merge` is how many patches per side become one token."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    image: int
    patch: int
    extra: int
    merge: int


@dataclass(frozen=True, slots=True)
class _Tokens:
    tokens: int
    tiles: int = 1
    patches: int | None = None
    dynamic: bool = False
    crossing: bool = False


def has_vision(config: Mapping[str, Any]) -> bool:
    """Tell whether a config describes a model that looks at pictures."""
    return _vision_config(config) is not None


def vision_geometry(
    config: Mapping[str, Any],
    processor: Mapping[str, Any],
    tensors: Sequence[Tensor],
    names: Mapping[str, str],
) -> VisionGeometry | None:
    """Derive the tower's sizes; None for a text model.

    `processor` is preprocessor_config.json (or the image part of processor_config.json), whose limits
    decide how many tiles or pixels a picture may have.
    """
    vision = _vision_config(config)
    if vision is None:
        return None
    tower = _tower(config, vision, tensors, names)
    rule = _rule(str(config.get("model_type", "")), config, processor, tower)
    grid = (tower.image // tower.patch) ** 2
    return VisionGeometry(
        layers=tower.layers,
        hidden=tower.hidden,
        intermediate=tower.intermediate,
        heads=tower.heads,
        image_size=tower.image,
        patch_size=tower.patch,
        patches=rule.patches if rule.patches is not None else grid + tower.extra,
        tokens_per_image=max(1, rule.tokens),
        max_tiles=max(1, rule.tiles),
        dynamic=rule.dynamic,
        merge=tower.merge,
        crossing=rule.crossing,
    )


def _vision_config(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for key in _VISION_KEYS:
        if isinstance(config.get(key), dict):
            part: dict[str, Any] = config[key]
            return part
    inner = config.get("thinker_config")
    return _vision_config(inner) if isinstance(inner, dict) else None


def _side(value: object) -> int | None:
    """Sizes are written as 336, [336, 336] or {"height": 336, ...}."""
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict):
        value = value.get("height", value.get("longest_edge"))
    return value if type(value) is int and 0 < value <= _LARGEST_SIDE else None


def _tower(
    config: Mapping[str, Any], vision: Mapping[str, Any], tensors: Sequence[Tensor], names: Mapping[str, str]
) -> _Tower:
    shapes = {
        names[tensor.name]: tensor.shape
        for tensor in tensors
        if any(is_vision(part) for part in names[tensor.name].split(".")[:2])
    }
    patch_shape = next((shape for name, shape in shapes.items() if _is_patch_embedding(name, shape)), None)
    # Qwen2-VL writes the tower's width as embed_dim and the language model's as hidden_size.
    hidden = number(vision, "embed_dim") or (patch_shape[0] if patch_shape else None)
    hidden = hidden or number(vision, "hidden_size") or 1024
    patch = _side(vision.get("patch_size")) or (patch_shape[-1] if patch_shape else 14)
    ratio = vision.get("mlp_ratio")
    widened = int(hidden * ratio) if isinstance(ratio, int | float) and 0 < ratio < _WIDEST else 4 * hidden
    blocks = [block[1] + 1 for block in map(block_of, shapes) if block]
    classes = any(name.endswith(("class_embedding", "cls_embedding", "cls_token")) for name in shapes)
    return _Tower(
        layers=number(vision, "num_hidden_layers", "depth", "num_layers") or max(blocks, default=24),
        hidden=hidden,
        intermediate=number(vision, "intermediate_size") or widened,
        heads=number(vision, "num_attention_heads", "num_heads") or max(1, hidden // 64),
        image=_side(vision.get("image_size")) or 336,
        patch=patch,
        extra=1 if classes else 0,
        merge=_merge(config, vision),
    )


def _is_patch_embedding(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) >= 4 and ("patch_embed" in name or "proj" in name) and name.endswith("weight")


def _merge(config: Mapping[str, Any], vision: Mapping[str, Any]) -> int:
    merge = number(vision, "spatial_merge_size") or number(config, "scale_factor", "spatial_merge_size")
    ratio = config.get("downsample_ratio")
    if merge is None and isinstance(ratio, float) and 0 < ratio < 1:
        merge = round(1 / ratio)
    return merge or 1


def _rule(family: str, config: Mapping[str, Any], processor: Mapping[str, Any], tower: _Tower) -> _Tokens:
    match family:
        case "llava_next" | "llava_next_video" | "llava_onevision":
            found = _anyres(config, tower, limit=_ONEVISION_TILES if family == "llava_onevision" else None)
        case "idefics3" | "smolvlm" | "granite_docling":
            found = _split(config, processor, tower)
        case "internvl" | "qianfan_ocr":
            found = _cropped(config, processor, tower)
        case "minicpmv4_6" | "minicpmv4_7":
            found = _sliced(processor, tower)
        case "phi4_multimodal":
            found = _high_definition(processor, tower)
        case "molmo2":
            found = _overlapping(processor, tower)
        case "idefics2":
            found = _resampled(config, processor)
        case "cogvlm":
            # A marker before and one behind: 1,227 for 490 px, 2,306 for CogVLM2's 1,344 px.
            found = _Tokens((tower.image // tower.patch // tower.merge) ** 2 + 2)
        case "mllama":
            # Pictures enter through cross-attention; only one marker stands in the prompt.
            tiles = number(_vision_config(config) or {}, "max_num_tiles") or 4
            found = _Tokens(1, tiles=tiles, crossing=True)
        case _:
            found = _by_size(family, config, processor, tower)
    return found


def _by_size(family: str, config: Mapping[str, Any], processor: Mapping[str, Any], tower: _Tower) -> _Tokens:
    """Pictures that are scaled to some size: to a limit of pixels, to a longest side, or to one square."""
    if (limit := _patch_limit(processor)) is not None:
        return _padded(limit, processor, tower)
    if _is_dynamic(family, processor, tower):
        return _dynamic(processor, tower)
    if "merge_size" in processor and family.startswith("glm"):
        # Its limit depends on more than the picture: as many as a stored picture has.
        tokens = math.ceil(math.isqrt(_LARGEST_PIXELS) / (tower.patch * tower.merge)) ** 2
        return _Tokens(tokens + 2, patches=tokens * tower.merge**2)
    vision = _vision_config(config) or {}
    if vision.get("model_type") == "pixtral":
        # As many rows as fit the longest side, a break behind each.
        side = math.ceil((_side(processor.get("size")) or tower.image) / (tower.patch * tower.merge))
        return _Tokens(side * (side + 1), patches=(side * tower.merge) ** 2)
    return _fixed(family, config, tower)


def _fixed(family: str, config: Mapping[str, Any], tower: _Tower) -> _Tokens:
    """One square picture: one token per patch (LLaVA-1.5: 576), or as many as the config says."""
    grid = (tower.image // tower.patch // tower.merge) ** 2
    if "llava" in family:
        # Its processor counts patches and ignores the config's image_seq_length.
        return _Tokens(grid + (tower.extra if config.get("vision_feature_select_strategy") == "full" else 0))
    pooled = number(config, "mm_tokens_per_image")
    if pooled:
        return _Tokens(pooled + 2)  # Gemma 3 puts a marker before and one behind.
    text = config.get("text_config")
    stated = number(config, *_SIGNS) or number(text if isinstance(text, dict) else {}, "num_image_tokens")
    return _Tokens(stated or grid)


def _anyres(config: Mapping[str, Any], tower: _Tower, limit: int | None) -> _Tokens:
    """A base picture and the best grid of tiles, one newline token per row of patches.

    LLaVA-1.6: 576 + 4 x 576 + 48 = 2,928 for a square picture. Unpadding only takes tokens away.
    """
    side = tower.image // tower.patch
    stated = config.get("image_grid_pinpoints")
    pinpoints = [point for point in stated if _is_pinpoint(point)] if isinstance(stated, list) else []
    grids = [
        (max(1, height // tower.image), max(1, width // tower.image))
        for height, width in pinpoints or [[2 * tower.image] * 2]
    ]
    features = 0
    for rows, columns in grids:
        height, width = rows * side, columns * side
        if limit and height * width > limit * side**2:
            scale = math.sqrt(height * width / (limit * side**2))
            height, width = int(height / scale), int(width / scale)
        features = max(features, height * width + height)
    return _Tokens(side**2 + features, tiles=1 + max(rows * columns for rows, columns in grids))


def _is_pinpoint(point: object) -> bool:
    """Whether an entry of the config is a height and a width, both plain numbers."""
    return (
        isinstance(point, list)
        and len(point) == 2
        and all(type(side) is int and 0 < side <= _LARGEST_SIDE for side in point)
    )


def _split(config: Mapping[str, Any], processor: Mapping[str, Any], tower: _Tower) -> _Tokens:
    """Idefics3 and SmolVLM: tiles of the tower's size and an overview, each between markers."""
    longest = _side(processor.get("size")) or 4 * tower.image
    tile = _side(processor.get("max_image_size")) or tower.image
    per_side = max(1, math.ceil(longest / tile))
    if config.get("model_type") == "granite_docling":
        per_side = math.isqrt(number(processor, "max_patches") or 32)
    tiles = per_side**2 if processor.get("do_image_splitting", True) else 0
    sequence = (tower.image // tower.patch) ** 2 // max(1, number(config, "scale_factor") or 2) ** 2
    # Two markers a tile, a line break a row, and the overview's three.
    return _Tokens((tiles + 1) * (sequence + 2) + per_side + 3, tiles=tiles + 1)


def _cropped(config: Mapping[str, Any], processor: Mapping[str, Any], tower: _Tower) -> _Tokens:
    """InternVL: up to `max_patches` crops and a thumbnail, 256 tokens each."""
    per_tile = number(config, "image_seq_length") or (tower.image // tower.patch // tower.merge) ** 2
    tiles = 1 + (number(processor, "max_patches") or 12)
    return _Tokens(per_tile * tiles + 2, tiles=tiles)


def _sliced(processor: Mapping[str, Any], tower: _Tower) -> _Tokens:
    """MiniCPM-V: an overview and up to nine slices of about 448 px, sixteen patches to a token.

    A slice may be up to a fifth larger than its share, for its sides are rounded to whole tokens; two
    markers stand around each, a line break behind each row, three tokens before the whole.
    """
    slices = number(processor, "max_slice_nums") or 9
    side = (_side(processor.get("scale_resolution")) or 448) // tower.patch
    divisor = 4 if processor.get("downsample_mode") == "4x" else 16
    tokens = side**2 // divisor
    return _Tokens(
        (1 + slices) * (tokens + tokens // 5 + 2) + slices + 3, tiles=1 + slices, patches=side**2 * 6 // 5
    )


def _overlapping(processor: Mapping[str, Any], tower: _Tower) -> _Tokens:
    """Molmo2: an overview and up to eight crops that overlap by eight patches, four patches to a token.

    A token ends each row; two markers stand around both parts.
    """
    crops = number(processor, "max_crops") or 8
    side = (_side(processor.get("size")) or 378) // tower.patch
    step = side - 8

    def pooled(rows: int, columns: int) -> int:
        return math.ceil(rows / 2) * (math.ceil(columns / 2) + 1)

    grids = [(rows, columns) for rows in range(1, crops + 1) for columns in range(1, crops // rows + 1)]
    most = max(pooled(rows * step + 8, columns * step + 8) for rows, columns in grids)
    return _Tokens(most + pooled(side, side) + 4, tiles=1 + crops, patches=side**2)


def _resampled(config: Mapping[str, Any], processor: Mapping[str, Any]) -> _Tokens:
    """Idefics2: 64 tokens for the picture, and for each of its quarters where it is split; two markers."""
    perceiver = config.get("perceiver_config")
    each = number(perceiver if isinstance(perceiver, dict) else {}, "resampler_n_latents") or 64
    tiles = 5 if processor.get("do_image_splitting") else 1
    return _Tokens(tiles * (each + 2), tiles=tiles)


def _high_definition(processor: Mapping[str, Any], tower: _Tower) -> _Tokens:
    """Phi-4: an overview and up to `dynamic_hd` crops of 448 px, four patches to a token.

    256 for each, a break behind each row of tokens (16 a crop's height), one between. A stored picture has
    at most 2,048 px a side, which is five crops.
    """
    image = _side(processor.get("size")) or 448
    longest = math.isqrt(_LARGEST_PIXELS)
    most = number(processor, "dynamic_hd") or 36
    per_side = min(math.ceil(longest / image), math.isqrt(most))
    rows = image // tower.patch // 2
    crops = per_side**2
    tokens = (1 + crops) * rows**2 + rows * (1 + per_side) + 1
    return _Tokens(tokens, tiles=1 + crops, patches=(image // tower.patch) ** 2)


def _is_dynamic(family: str, processor: Mapping[str, Any], tower: _Tower) -> bool:
    limits = processor.get("max_pixels") or _size(processor).get("longest_edge")
    named = family.startswith(
        ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "glm4v", "glm46v", "paddleocr_vl")
    )
    limited = isinstance(limits, int) and limits > 100_000
    merges = tower.merge > 1 or "merge_size" in processor
    return named or (merges and limited)


def _patch_limit(processor: Mapping[str, Any]) -> int | None:
    """Kimi's limit, which is one of patches; where nothing is merged the key means tiles."""
    return number(processor, "max_patches") if "merge_size" in processor else None


def _padded(limit: int, processor: Mapping[str, Any], tower: _Tower) -> _Tokens:
    """Kimi: scaled to at most `limit` patches, then padded to whole tokens, a row and a column at most.

    No setting of its processor bounds what padding adds, so a plan counts the largest stored picture.
    """
    patch = number(processor, "patch_size") or tower.patch
    merge = number(processor, "merge_size") or tower.merge
    side = math.ceil(math.isqrt(_LARGEST_PIXELS) / (patch * merge))
    tokens = min(limit // merge**2 + 2 * side + 1, side**2)
    return _Tokens(tokens + 2, patches=tokens * merge**2)


def _size(processor: Mapping[str, Any]) -> Mapping[str, Any]:
    size = processor.get("size")
    return size if isinstance(size, dict) else {}


def _dynamic(processor: Mapping[str, Any], tower: _Tower) -> _Tokens:
    """Qwen-VL and its kin: as many tokens as the picture's pixels, up to the processor's limit."""
    # The processor cuts the patches; the tower's own figures stand in where it says nothing.
    patch = number(processor, "patch_size") or tower.patch
    merge = number(processor, "merge_size") or tower.merge
    default = 1280 * (patch * merge) ** 2
    limit = (
        number(processor, "max_pixels") or number(_size(processor), "longest_edge", "max_pixels") or default
    )
    tokens = min(limit, _LARGEST_PIXELS) // (patch * merge) ** 2
    # Two markers stand around every picture.
    return _Tokens(tokens + 2, patches=tokens * merge**2, dynamic=True)
