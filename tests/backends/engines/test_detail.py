"""How many tokens a picture takes when a plan limits it, with the processors that transformers has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import transformers
from PIL import Image
from transformers import CLIPImageProcessorPil, Qwen2VLImageProcessorPil

from backends.engines.detail import limit_detail

# Every processor that scales pictures to a number of pixels: Qwen's, and those of its kin.
SCALING = (
    *("Qwen2VL", "Glm4v", "Glm46V", "Glmga", "PaddleOCRVL", "Ernie4_5_VLMoe", "HunYuanVL", "Cosmos3Edge"),
    "VideoLlama3",
)
MARKERS = 2


def processor_of(name: str) -> Any:
    return getattr(transformers, f"{name}ImageProcessorPil")()


def tokens(processor: Any, picture: Image.Image) -> int:
    """What the picture takes in a prompt, markers included."""
    time, rows, columns = processor(picture, return_tensors="np")["image_grid_thw"][0]
    return int(time * rows * columns) // processor.merge_size**2 + MARKERS


@pytest.mark.parametrize("size", [(1600, 1200), (3000, 400), (90, 60)], ids=["large", "wide", "small"])
@pytest.mark.parametrize("limit", [66, 320, 1000])
@pytest.mark.parametrize("name", SCALING)
def test_a_picture_takes_at_most_what_was_planned(name: str, limit: int, size: tuple[int, int]) -> None:
    usual, limited = processor_of(name), processor_of(name)
    limit_detail(SimpleNamespace(image_processor=limited), limit)
    picture = Image.new("RGB", size, "teal")

    assert tokens(limited, picture) <= limit
    if size == (1600, 1200):
        assert 0.75 * limit <= tokens(limited, picture) <= tokens(usual, picture)


@pytest.mark.parametrize("limit", [0, 100_000], ids=["a plan without pictures", "more than usual"])
def test_the_usual_detail_stays(limit: int) -> None:
    processor = Qwen2VLImageProcessorPil()
    before = dict(processor.size)
    limit_detail(SimpleNamespace(image_processor=processor), limit)
    assert dict(processor.size) == before


def test_families_that_do_not_scale_pictures_are_left_alone() -> None:
    processor = CLIPImageProcessorPil()
    before = dict(processor.size)
    limit_detail(SimpleNamespace(image_processor=processor), 66)
    limit_detail(SimpleNamespace(), 66)
    assert dict(processor.size) == before
