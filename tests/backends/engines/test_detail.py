"""How many tokens a picture takes when a plan limits it, with the processors that transformers has."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from PIL import Image
from transformers import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from backends.engines.detail import limit_detail


def tokens(processor: Qwen2VLImageProcessorPil, picture: Image.Image) -> int:
    time, rows, columns = processor(picture, return_tensors="np")["image_grid_thw"][0]
    return int(time * rows * columns) // processor.merge_size**2


@pytest.mark.parametrize("size", [(1600, 1200), (3000, 400), (90, 60)], ids=["large", "wide", "small"])
@pytest.mark.parametrize("limit", [66, 320, 1000])
def test_a_picture_takes_at_most_what_was_set(limit: int, size: tuple[int, int]) -> None:
    usual, limited = Qwen2VLImageProcessorPil(), Qwen2VLImageProcessorPil()
    limit_detail(SimpleNamespace(image_processor=limited), limit)
    picture = Image.new("RGB", size, "teal")

    assert tokens(limited, picture) <= limit
    if size == (1600, 1200):
        assert 0.8 * limit <= tokens(limited, picture) < tokens(usual, picture)


@pytest.mark.parametrize("limit", [None, 100_000], ids=["not set", "more than usual"])
def test_the_usual_detail_stays(limit: int | None) -> None:
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
