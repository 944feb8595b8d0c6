"""How pictures of any shape become the square that a tower takes: a processor's settings as GGUF metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.conversion.refusal import PROCESSOR, refused
from backends.conversion.types import Value

# CLIP's own figures, for a processor that leaves them to its class.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_SIDE, _BICUBIC, _RESCALE = 224, 3, 1 / 255
# Only one of these pads; the others leave a padding to batches, which have one picture here.
_PADS = "LlavaImageProcessor"
_KNOWN = frozenset({_PADS, "CLIPImageProcessor", "CLIPFeatureExtractor"})
_SUFFIXES = ("Fast", "Pil")


@dataclass(frozen=True, slots=True)
class _Size:
    """A stated size: one edge, the shortest one (`square` False) or both."""

    edge: int
    square: bool


def picture_values(folder: Path, processor: Mapping[str, Any], side: int) -> dict[str, Value]:
    """Metadata of the pictures' way to a square of `side`: llama.cpp's mean and deviation, and our own keys.

    `snug.picture.fit` is `pad` (to a square, with `snug.picture.padding`), `crop` (the middle) or `stretch`;
    `snug.picture.edge` is what is resized to before the middle is cut out, with Pillow's filter
    `snug.picture.filter`. Raises ModelUnsupported for a way that can't be gone.
    """
    normalize = processor.get("do_normalize", True) is not False
    mean = _three(processor.get("image_mean"), _MEAN)
    values: dict[str, Value] = {
        "clip.vision.image_mean": mean if normalize else (0.0, 0.0, 0.0),
        "clip.vision.image_std": _three(processor.get("image_std"), _STD) if normalize else (1.0, 1.0, 1.0),
    }
    return values | _fit(folder, processor, mean, side)


def _fit(folder: Path, processor: Mapping[str, Any], mean: tuple[float, ...], side: int) -> dict[str, Value]:
    # Where there are no settings at all: as LLaVA's checkpoints have them.
    usual = _SIDE if processor else side
    kind = _kind(processor)
    if kind not in _KNOWN:
        raise refused(folder, PROCESSOR, kind)
    for key in ("do_resize", "do_rescale"):
        if processor.get(key, True) is False:
            raise refused(folder, PROCESSOR, f"{key} false")
    factor = processor.get("rescale_factor", _RESCALE)
    if not isinstance(factor, int | float) or abs(factor - _RESCALE) > 1e-6:
        raise refused(folder, PROCESSOR, f"rescale_factor {factor}")
    size = _size(folder, processor.get("size", usual))
    pads = kind == _PADS and processor.get("do_pad", False) is True
    cut = size.edge
    if processor.get("do_center_crop", True) is not False:
        cut = _size(folder, processor.get("crop_size", usual), square=True).edge
    elif not size.square and not pads:
        raise refused(folder, PROCESSOR, "do_center_crop false")
    if cut != side:
        raise refused(folder, PROCESSOR, f"{cut} px, {side} px")
    values: dict[str, Value] = {
        "snug.picture.fit": "pad" if pads else "stretch" if size.square else "crop",
        "snug.picture.edge": size.edge,
        "snug.picture.filter": _filter(folder, processor.get("resample", _BICUBIC)),
    }
    if pads:
        values["snug.picture.padding"] = tuple(int(number * 255) for number in mean)
    return values


def _kind(processor: Mapping[str, Any]) -> str:
    stated = processor.get("image_processor_type", processor.get("feature_extractor_type"))
    kind = stated if isinstance(stated, str) else "CLIPImageProcessor"
    for suffix in _SUFFIXES:
        kind = kind.removesuffix(suffix)
    return kind


def _size(folder: Path, stated: object, *, square: bool = False) -> _Size:
    """A size in the form of any version: a number, or a mapping with edges."""
    match stated:
        case bool():
            pass
        case int(edge) if edge > 0:
            return _Size(edge, square)
        case {"shortest_edge": int(edge)} if edge > 0 and not square and not _bounded(stated):
            return _Size(edge, square=False)
        case {"height": int(height), "width": int(width)} if height == width > 0:
            return _Size(height, square=True)
    raise refused(folder, PROCESSOR, f"size {stated}")


def _bounded(stated: object) -> bool:
    return isinstance(stated, dict) and stated.get("longest_edge") is not None


def _filter(folder: Path, stated: object) -> int:
    if type(stated) is not int or not 0 <= stated <= 5:
        raise refused(folder, PROCESSOR, f"resample {stated}")
    return stated


def _three(stated: object, default: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(item) for item in stated) if isinstance(stated, list) and len(stated) == 3 else default
