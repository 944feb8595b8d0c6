"""preprocessor_config.json of an original LLaVA: what is in it counts, and what can't be is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backends.errors import ModelDamaged
from backends.models.originals.llava_pictures import picture_settings

SIDE = 56
MEAN = [0.48, 0.46, 0.41]


def settings(tmp_path: Path, stated: dict[str, Any], aspect: str | None = None) -> dict[str, Any]:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated), encoding="utf-8")
    return picture_settings(tmp_path, None, SIDE, {"image_aspect_ratio": aspect})


@pytest.mark.parametrize(
    ("stated", "aspect"),
    [
        ({}, None),
        ({"size": 56, "crop_size": 56}, None),
        ({"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}, "anyres"),
        ({"size": {"height": 56, "width": 56}}, None),
        ({"size": {"shortest_edge": 64}, "crop_size": 56}, None),
        ({"size": {"height": 56, "width": 56}, "do_center_crop": False, "crop_size": 224}, None),
        ({"size": 56, "do_center_crop": False}, "pad"),
        ({"do_resize": False, "crop_size": 56, "size": 3}, None),
        ({"size": None, "image_mean": MEAN, "image_std": MEAN, "resample": 3}, None),
    ],
)
def test_pictures_as_large_as_the_tower_looks_at(
    tmp_path: Path, stated: dict[str, Any], aspect: str | None
) -> None:
    found = settings(tmp_path, stated, aspect)
    assert {key: value for key, value in stated.items() if value is not None}.items() <= found.items()
    assert found["size"] is not None


@pytest.mark.parametrize(
    ("stated", "aspect", "has", "key"),
    [
        ({"crop_size": 70}, None, "70", "crop_size"),
        ({"crop_size": 42}, "pad", "42", "crop_size"),
        ({"crop_size": {"height": 56, "width": 70}}, None, "70 x 56", "crop_size"),
        ({"size": 28}, None, "28", "size"),
        ({"size": {"shortest_edge": 28}}, "pad", "28", "size"),
        ({"size": {"height": 70, "width": 42}}, None, "42 x 70", "size"),
        ({"size": 70, "do_center_crop": False}, "pad", "70", "size"),
        ({"crop_size": 70, "do_center_crop": False}, "anyres", "70", "crop_size"),
        ({"size": {"shortest_edge": 56}, "do_center_crop": False}, None, r"\?", "do_center_crop"),
        ({"do_resize": False, "do_center_crop": False}, "pad", r"\?", "do_center_crop"),
    ],
)
def test_pictures_of_another_size_are_refused_with_both_figures(
    tmp_path: Path, stated: dict[str, Any], aspect: str | None, has: str, key: str
) -> None:
    with pytest.raises(ModelDamaged, match=f"pictures {has} pixels large .{key}., and .* looks at 56"):
        settings(tmp_path, stated, aspect)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("size", value) for value in ("x", 0, -56, True, 5.5, [56, 56], {}, {"longest_edge": 56})),
        *(("size", {"shortest_edge": value}) for value in ("56", None, 0)),
        *(("crop_size", value) for value in ("56", {"shortest_edge": 56}, {"height": 56})),
        *(("image_mean", value) for value in (5, [0.5], ["a", "b", "c"], [0.5, 0.5, float("inf")])),
        *(("image_std", value) for value in ("x", [0.0, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5])),
        *(("resample", value) for value in (9, "bicubic", 2.5)),
        *(("rescale_factor", value) for value in (0, "x", True)),
        *((key, "yes") for key in ("do_resize", "do_center_crop", "do_rescale", "do_normalize")),
        ("do_convert_rgb", 1),
    ],
)
def test_values_that_cannot_be_are_named(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(ModelDamaged, match=f"preprocessor_config.json gives {key} as ") as raised:
        settings(tmp_path, {key: value})
    assert "preprocessor_config.json again" in str(raised.value)


def test_the_towers_own_file_wins_and_is_blamed(tmp_path: Path) -> None:
    folder, tower = tmp_path / "checkpoint", tmp_path / "tower"
    for place, side in ((folder, 70), (tower, 56)):
        place.mkdir()
        (place / "preprocessor_config.json").write_text(json.dumps({"crop_size": side}), encoding="utf-8")
    assert picture_settings(folder, tower, 56, {})["crop_size"] == 56
    with pytest.raises(ModelDamaged, match="tower"):
        picture_settings(folder, tower, 70, {})
