"""How pictures are prepared for an original LLaVA: preprocessor_config.json, and what of it can't be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backends.errors import ModelDamaged
from backends.models.checkpoint import read_json_if_there
from backends.models.originals.config_values import is_finite, is_positive, malformed
from backends.text import Text

_FILE = "preprocessor_config.json"
# What the engine needs to know of how pictures are looked at, beside that file.
_WAYS = ("image_aspect_ratio", "image_grid_pinpoints", "mm_patch_merge_type", "mm_use_im_start_end")
_CHANNELS = 3
_MOST_PIXELS = 1 << 20
_FILTERS = range(6)  # Pillow's, by their numbers


def picture_settings(
    folder: Path, tower: Path | None, side: int, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """preprocessor_config.json of the tower, else of the checkpoint, and how pictures are looked at.

    `side` is how many pixels the tower looks at. Raises ModelDamaged for values that can't be, and for
    pictures that come out in another size.
    """
    prepared: dict[str, Any] = {"size": side, "crop_size": side}
    stated_in: dict[str, Path] = {}
    for place in (folder, tower):
        if place is not None:
            stated = {key: value for key, value in _read(place).items() if value is not None}
            prepared |= stated
            stated_in |= dict.fromkeys(stated, place)
    wrong = _other_size(prepared, side, settings.get("image_aspect_ratio"))
    if wrong is not None:
        key, has = wrong
        raise _unfit(stated_in.get(key, folder), key, has, side)
    return prepared | {key: settings[key] for key in _WAYS if key in settings}


def _read(place: Path) -> dict[str, Any]:
    """The file's values. Raises ModelDamaged for one of another kind than its key takes."""
    stated = read_json_if_there(place / _FILE)
    for key, fits in _CHECKS.items():
        if stated.get(key) is not None and not fits(stated[key]):
            raise malformed(place, key, stated[key], _FILE)
    return stated


def _other_size(prepared: Mapping[str, Any], side: int, aspect: object) -> tuple[str, str] | None:
    """The key that makes pictures of another size than `side`, and that size; None where none does."""
    crop, size = _sides(prepared["crop_size"]), _sides(prepared["size"])
    cropped = prepared.get("do_center_crop", True)
    if (cropped or aspect == "anyres") and crop != (side, side):
        return "crop_size", _written(crop)
    # A larger picture is cut; a smaller one would stand in a black frame.
    fits = min(size) >= side if cropped else size == (side, side)
    if prepared.get("do_resize", True) and not fits:
        return "size", _written(size)
    square = aspect in ("pad", "anyres") or _is_square(prepared["size"])
    if cropped or (prepared.get("do_resize", True) and square):
        return None
    return "do_center_crop", "?"


def _sides(value: object) -> tuple[int, int]:
    """Height and width of a size that is one number, or names its shorter edge or both sides."""
    if isinstance(value, dict):
        lengths: dict[str, int] = value
        edge = lengths.get("shortest_edge", 0)
        return lengths.get("height", edge), lengths.get("width", edge)
    whole = value if isinstance(value, int) else 0
    return whole, whole


def _is_square(value: object) -> bool:
    return isinstance(value, dict) and "shortest_edge" not in value


def _written(sides: tuple[int, int]) -> str:
    return str(sides[0]) if sides[0] == sides[1] else f"{sides[1]} x {sides[0]}"


def _unfit(place: Path, key: str, has: str, side: int) -> ModelDamaged:
    detail = Text.of(
        "llava.pictures_size",
        "Its {file} makes pictures {has} pixels large ({key}), and its vision tower looks at {side}.",
        file=_FILE,
        has=has,
        key=key,
        side=side,
    )
    return ModelDamaged(path=str(place), detail=detail, file=_FILE)


def _is_length(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST_PIXELS


def _is_size(value: object) -> bool:
    return _is_length(value) or _is_crop(value) or _names(value, ["shortest_edge"])


def _is_crop(value: object) -> bool:
    return _is_length(value) or _names(value, ["height", "width"])


def _names(value: object, keys: list[str]) -> bool:
    return isinstance(value, dict) and sorted(value) == keys and all(map(_is_length, value.values()))


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_filter(value: object) -> bool:
    return is_finite(value) and value in _FILTERS


def _is_mean(value: object) -> bool:
    return isinstance(value, list) and len(value) == _CHANNELS and all(map(is_finite, value))


def _is_deviation(value: object) -> bool:
    return isinstance(value, list) and len(value) == _CHANNELS and all(map(is_positive, value))


_CHECKS: Mapping[str, Callable[[object], bool]] = {
    "size": _is_size,
    "crop_size": _is_crop,
    "resample": _is_filter,
    "rescale_factor": is_positive,
    "image_mean": _is_mean,
    "image_std": _is_deviation,
    **dict.fromkeys(
        ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"), _is_flag
    ),
}
