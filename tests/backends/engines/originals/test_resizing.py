"""Pictures are resized the same by every version of Pillow."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from backends.engines.originals.resizing import resized


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("sides", "size", "columns_first"),
    [
        pytest.param((41, 130), (56, 56), True, id="wider but shorter"),
        pytest.param((100, 400), (50, 100), True, id="much shorter"),
        pytest.param((100, 200), (50, 100), False, id="shorter by twice as much, not more"),
        pytest.param((90, 61), (56, 56), False, id="a wide picture"),
        pytest.param((20, 30), (56, 84), False, id="enlarged"),
    ],
)
def test_the_pass_that_shrinks_most_comes_first(
    sides: tuple[int, int], size: tuple[int, int], columns_first: bool
) -> None:
    image = noise(*sides)
    between = (image.width, size[1]) if columns_first else (size[0], image.height)
    way = Image.Resampling.BICUBIC
    expected = image.resize(between, way).resize(size, way)
    assert np.array_equal(np.asarray(resized(image, size)), np.asarray(expected))
