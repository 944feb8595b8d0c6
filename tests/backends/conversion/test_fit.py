"""What a file says of the way from any picture to the tower's square."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backends.conversion.fit import picture_values
from backends.errors import ModelUnsupported

CLIP: dict[str, Any] = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 336},
    "crop_size": {"height": 336, "width": 336},
}
LLAVA = CLIP | {"image_processor_type": "LlavaImageProcessor"}


def fit(processor: dict[str, Any]) -> tuple[object, ...]:
    values = picture_values(Path("model"), processor, 336)
    keys = ("fit", "edge", "filter", "padding")
    return tuple(values.get(f"snug.picture.{key}") for key in keys)


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ({}, ("crop", 336, 3, None)),
        (CLIP, ("crop", 336, 3, None)),
        (CLIP | {"image_processor_type": "CLIPImageProcessorFast"}, ("crop", 336, 3, None)),
        (
            {"feature_extractor_type": "CLIPFeatureExtractor", "size": 336, "crop_size": 336},
            ("crop", 336, 3, None),
        ),
        (CLIP | {"size": {"shortest_edge": 384}, "resample": 2}, ("crop", 384, 2, None)),
        (CLIP | {"size": {"height": 336, "width": 336}}, ("stretch", 336, 3, None)),
        (LLAVA, ("crop", 336, 3, None)),
        (LLAVA | {"do_pad": True}, ("pad", 336, 3, (122, 116, 104))),
        (LLAVA | {"do_pad": True, "image_mean": [0.5, 0.5, 0.5]}, ("pad", 336, 3, (127, 127, 127))),
        # Of other processors, only batches are padded.
        (CLIP | {"do_pad": True}, ("crop", 336, 3, None)),
        (LLAVA | {"do_pad": True, "do_center_crop": False, "crop_size": 1}, ("pad", 336, 3, (122, 116, 104))),
    ],
    ids=str,
)  # fmt: skip
def test_the_way_is_the_processors(processor: dict[str, Any], expected: tuple[object, ...]) -> None:
    assert fit(processor) == expected


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"image_processor_type": "SiglipImageProcessor"}, "SiglipImageProcessor"),
        ({"do_resize": False}, "do_resize"),
        ({"do_rescale": False}, "do_rescale"),
        ({"rescale_factor": 0.5}, "rescale_factor"),
        ({"do_center_crop": False}, "do_center_crop"),
        ({"size": {"height": 336, "width": 300}}, "size"),
        ({"size": {"shortest_edge": 336, "longest_edge": 600}}, "size"),
        ({"size": {"longest_edge": 336}}, "size"),
        ({"size": True}, "size"),
        ({"crop_size": {"height": 224, "width": 224}}, "224 px"),
        ({"crop_size": {"shortest_edge": 336}}, "size"),
        ({"resample": "bicubic"}, "resample"),
    ],
    ids=str,
)
def test_other_ways_are_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelUnsupported, match=named):
        fit(CLIP | changes)


def test_pixels_that_are_not_normalized() -> None:
    values = picture_values(Path("model"), CLIP | {"do_normalize": False, "image_std": [2, 2, 2]}, 336)
    assert values["clip.vision.image_mean"] == (0.0, 0.0, 0.0)
    assert values["clip.vision.image_std"] == (1.0, 1.0, 1.0)
