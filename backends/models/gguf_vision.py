"""The picture part of a GGUF model (mmproj): its sizes, and how many tokens llama.cpp makes of a picture.

The rules are those of llama.cpp's clip.cpp (clip_n_output_tokens, load_hparams): by kind of projector, with
the limits that it sets where the file states none.
"""

from __future__ import annotations

import math
import re

from backends.errors import ModelUnsupported
from backends.models.gguf_header import GgufHeader
from backends.models.types import VisionGeometry
from backends.text import Text, shown_name

_VISION = "clip.vision."
# One token a patch: LLaVA 1.5 and 1.6, Janus.
_PLAIN = frozenset({"mlp", "mlp_norm", "janus_pro"})
# Four patches make a token: MobileVLM, GLM-Edge.
_QUARTERED = frozenset({"ldp", "ldpv2", "adapter"})
# As many tokens as the picture has pixels for; the most that llama.cpp allows by itself.
_DYNAMIC = {
    **dict.fromkeys(("qwen2vl_merger", "qwen2.5vl_merger", "qwen2.5o", "qwen3vl_merger", "glm4v"), 4096),
    **dict.fromkeys(("pixtral", "kimivl"), 1024),
    "lfm2": 256,
    "gemma4v": 280,
}
_DYNAMIC_MERGE = {"pixtral": 1, "gemma4v": 3}
# Pixtral ends every row of a picture with a token; a picture four times as high as wide has 64.
_ROW_BREAKS = {"pixtral": 64}
# MiniCPM-V: an overview and up to nine slices; the number of queries by the version where it isn't stated.
_SLICES, _QUERIES, _QUERIES_OLD = 10, 64, 96
_INTERNVL_TILES, _LLAMA4_SIDE = 12, 3
# Two markers stand around a picture, or a tile of one.
_MARKERS = 2
# Projectors of one matrix, by which of its sides gives out: Gemma 3 and MiniCPM-V multiply from the other.
_SINGLE_LAYERS = {"mm.model.fc.weight": 0, "mm.input_projection.weight": 1, "resampler.proj.weight": 1}
_LAST_LAYER = re.compile(r"(?:mm|mm\.model\.mlp)\.([0-9]{1,3})\.weight")


def has_eyes(header: GgufHeader) -> bool:
    """Whether a file is a picture part (and not one that only hears)."""
    stated = header.values.get("clip.has_vision_encoder")
    return is_projector_file(header) and (
        stated is True or (stated is None and _size(header, "patch_size") > 0)
    )


def is_projector_file(header: GgufHeader) -> bool:
    """Whether a file holds no language model but what turns pictures or sound into its tokens."""
    return header.text("general.architecture") == "clip"


def projected_width(header: GgufHeader) -> int | None:
    """The width of the language model that the projector was made for; None where the file does not tell.

    Its last layer gives out that width. The key projection_dim is CLIP's own in older files.
    """
    numbered = {
        int(found[1]): tensor.shape
        for tensor in header.tensors
        if (found := _LAST_LAYER.fullmatch(tensor.name)) and len(tensor.shape) == 2
    }
    if numbered:
        return numbered[max(numbered)][0]
    for tensor in header.tensors:
        if tensor.name in _SINGLE_LAYERS and len(tensor.shape) == 2:
            return tensor.shape[_SINGLE_LAYERS[tensor.name]]
    return None


def gguf_vision(header: GgufHeader) -> VisionGeometry:
    """Derive the sizes. Raises ModelUnsupported for a kind of projector that is not known."""
    kind = header.text("clip.projector_type") or header.text("clip.vision.projector_type") or "mlp"
    patch = _size(header, "patch_size") or 14
    image = _size(header, "image_size") or 336
    hidden = _size(header, "embedding_length") or 1024
    side = max(1, image // patch)
    grid = side**2
    tokens, tiles, merge = _tokens(header, kind, side)
    dynamic = kind in _DYNAMIC
    if dynamic:
        grid = (tokens - _MARKERS) * merge**2
    elif any(tensor.name == "v.class_embd" for tensor in header.tensors):
        grid += 1
    return VisionGeometry(
        layers=_size(header, "block_count") or 24,
        hidden=hidden,
        intermediate=_size(header, "feed_forward_length") or 4 * hidden,
        heads=_size(header, "attention.head_count") or max(1, hidden // 64),
        image_size=image,
        patch_size=patch,
        patches=grid,
        tokens_per_image=max(1, tokens),
        max_tiles=tiles,
        dynamic=dynamic,
        merge=merge,
    )


def _size(header: GgufHeader, key: str) -> int:
    """A size that is believable, else 0."""
    found = header.number(_VISION + key) or 0
    return found if found < 1 << 20 else 0


def _tokens(header: GgufHeader, kind: str, side: int) -> tuple[int, int, int]:
    """Tokens of the largest picture, passes of the tower for it, and patches per side that become one."""
    scale = _size(header, "projector.scale_factor")
    if kind in _DYNAMIC:
        merge = _size(header, "spatial_merge_size") or scale or _DYNAMIC_MERGE.get(kind, 2)
        return _DYNAMIC[kind] + _ROW_BREAKS.get(kind, 0) + _MARKERS, 1, merge
    if kind in _PLAIN:
        tiles = _anyres_tiles(header)
        return tiles * side**2, tiles, 1
    if kind in _QUARTERED:
        return side**2 // 4 + _MARKERS, 1, 2
    if kind == "resampler":
        queries = header.number("clip.minicpmv_query_num")
        queries = queries or (_QUERIES_OLD if header.number("clip.minicpmv_version") == 2 else _QUERIES)
        return _SLICES * (queries + _MARKERS) + _SLICES, _SLICES, 1
    if kind == "cogvlm":
        return side**2 + _MARKERS, 1, 1
    merge = scale or {"gemma3": 4}.get(kind, 2)
    per_tile = (side // merge) ** 2 + _MARKERS
    tiles = _tiles(header, kind)
    return per_tile * tiles + (math.isqrt(tiles) if tiles > 1 else 0), tiles, merge


def _tiles(header: GgufHeader, kind: str) -> int:
    match kind:
        case "gemma3":
            return 1
        case "internvl":
            return 1 + (_size(header, "preproc_max_tiles") or _INTERNVL_TILES)
        case "llama4":
            return 1 + _LLAMA4_SIDE**2
        case "idefics3":
            longest, image = _size(header, "preproc_image_size"), _size(header, "image_size") or 336
            return 1 + math.ceil(longest / image) ** 2 if longest else 1
    raise ModelUnsupported(
        path=header.file,
        detail=Text.of(
            "gguf.projector",
            "{file} sees pictures in a way that this version does not know ({kind}).",
            file=header.file,
            kind=shown_name(kind),
        ),
        suggestion=Text(
            "gguf.projector_remedy",
            "Use a model such as LLaVA, Qwen2.5-VL or Gemma 3, or move the mmproj file elsewhere.",
        ),
    )


def _anyres_tiles(header: GgufHeader) -> int:
    """LLaVA-1.6: the overview and the tiles of the largest resolution that the file lists."""
    stated = header.values.get(_VISION + "image_grid_pinpoints")
    image = _size(header, "image_size") or 336
    sides = (
        [side for side in stated if type(side) is int and 0 < side < 1 << 14]
        if isinstance(stated, tuple)
        else []
    )
    grids = [
        max(1, width // image) * max(1, height // image)
        for width, height in zip(sides[::2], sides[1::2], strict=False)
    ]
    return 1 + max(grids) if grids else 1
