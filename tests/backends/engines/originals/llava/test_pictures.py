"""How LLaVA looks at pictures, and that placeholders are as many as the native class's features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import LlavaNextConfig, LlavaNextForConditionalGeneration

from backends.engines.originals.llava.model import StackedLlava, model_class
from backends.engines.originals.llava.pictures import LlavaPictures, Tiles, best_size
from backends.models.originals.llava_names import expected_shapes
from backends.models.originals.types import Recipe
from tests.support.original_llava import folders, recipe_of, values

SIDES = [
    (1, 1),
    (3, 200),
    (200, 3),
    (41, 130),
    (150, 83),
    (97, 70),
    (56, 56),
    (112, 112),
    (1000, 999),
    (672, 336),
]


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def tiled() -> tuple[Recipe, Any]:
    recipe = recipe_of(folders("llava-v1.6-vicuna")[0])
    kind = model_class(recipe.config)
    model = kind.from_pretrained(None, config=kind.config_class(**recipe.config), state_dict=values(recipe))
    return recipe, model.eval()


@pytest.mark.parametrize("sides", SIDES, ids=lambda sides: f"{sides[0]}x{sides[1]}")
@torch.inference_mode()
def test_a_placeholder_for_every_feature(sides: tuple[int, int], tiled: tuple[Recipe, Any]) -> None:
    recipe, model = tiled
    made = LlavaPictures(recipe.pictures, recipe.config)([noise(*sides)])
    ids = made.pop("input_ids")
    features = model.get_image_features(**made, return_dict=True).pooler_output
    assert sum(len(one) for one in features) == ids.shape[1]


@pytest.mark.parametrize(
    ("aspect", "select"),
    [("pad", "default"), ("pad", "full"), (None, "default"), ("square", "full"), ("anyres", "default")],
)
@pytest.mark.parametrize("sides", [(41, 130), (150, 83), (30, 30)], ids=["tall", "wide", "square"])
def test_one_after_the_other(aspect: str | None, select: str, sides: tuple[int, int]) -> None:
    recipe = recipe_of(folders("llava-v1.5-full")[0])
    settings = {
        **recipe.pictures,
        "image_aspect_ratio": aspect,
        "image_grid_pinpoints": [[56, 112], [112, 56]],
    }
    made = LlavaPictures(settings, {**recipe.config, "vision_feature_select_strategy": select})(
        [noise(*sides)]
    )
    crops = 3 if aspect == "anyres" else 1
    assert made["pixel_values"].shape == (crops, 3, 56, 56)
    assert made["input_ids"].shape == (1, crops * (16 + (select == "full")))


def test_padding_has_the_mean_colour_and_the_picture_its_place() -> None:
    recipe = recipe_of(folders("llava-v1.5-full")[0])
    made = LlavaPictures(recipe.pictures, recipe.config)([Image.new("RGB", (56, 28), "white")])
    pixels = made["pixel_values"][0]
    assert pixels[:, :10].abs().max() < 0.02
    assert (pixels[:, 20:36] > 1.5).all()


@pytest.mark.parametrize(
    ("picture", "best"),
    [((100, 100), (112, 112)), ((300, 50), (168, 56)), ((40, 400), (56, 168)), ((20, 20), (56, 112))],
)
def test_the_best_size(picture: tuple[int, int], best: tuple[int, int]) -> None:
    assert best_size(picture, [(56, 112), (112, 56), (112, 112), (168, 56), (56, 168)]) == best


def original_kept(tiles: Tiles) -> tuple[int, int]:
    """Columns and rows by the original's formula, written out."""
    (width, height), columns, rows = tiles.picture, tiles.columns, tiles.rows
    if width / height > columns / rows:
        padding = (rows - int(height * (columns / width))) // 2
        return columns, len(range(rows)[padding : rows - padding])
    padding = (columns - int(width * (rows / height))) // 2
    return len(range(columns)[padding : columns - padding]), rows


@torch.inference_mode()
def test_sides_for_the_native_class_keep_what_the_original_keeps() -> None:
    """Where a product falls a hair below a whole number, the original cuts it off and transformers rounds it."""
    sizes = [(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)]
    model = LlavaNextForConditionalGeneration(_tiny(sizes)).eval()
    for sides in [(176, 110), (640, 480), (480, 640), (1920, 1080), (1080, 1920), (31, 1000), (337, 673)]:
        tiles = Tiles.of(sides, sizes, 336, 24)
        columns, rows = original_kept(tiles)
        assert tiles.features == rows * (columns + 1)
        stated = tiles.sides_for_native()
        assert (stated != sides) == (sides == (176, 110))
        across, down = tiles.size[0] // 336, tiles.size[1] // 336
        crops = torch.zeros(1 + across * down, 24 * 24, 2)
        packed, _ = model.pack_image_features(
            [crops], torch.tensor([stated[::-1]]), "default", torch.zeros(2)
        )
        assert len(packed[0]) == 24 * 24 + tiles.features


def _tiny(sizes: list[tuple[int, int]]) -> LlavaNextConfig:
    text = {
        "model_type": "llama",
        "hidden_size": 2,
        "intermediate_size": 2,
        "num_hidden_layers": 1,
        "vocab_size": 8,
    }
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": 2,
        "intermediate_size": 2,
        "num_hidden_layers": 1,
        "image_size": 336,
        "patch_size": 14,
        "num_attention_heads": 1,
    }
    return LlavaNextConfig(
        text_config=text | {"num_attention_heads": 1, "num_key_value_heads": 1},
        vision_config=vision,
        image_grid_pinpoints=[[height, width] for width, height in sizes],
    )


@pytest.mark.parametrize("depth", [0, 1, 3])
@torch.inference_mode()
def test_projectors_of_other_depths(depth: int) -> None:
    recipe = recipe_of(folders("llava-v1.5-full")[0])
    wide = recipe.config["text_config"]["hidden_size"] if depth == 0 else 32
    vision = {**recipe.config["vision_config"], "hidden_size": wide}
    config = {**recipe.config, "projector_depth": depth, "vision_config": vision}
    assert model_class(config) is StackedLlava
    model = StackedLlava(StackedLlava.config_class(**config)).eval()
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == expected_shapes(config)
    pixels = torch.rand(1, 3, 56, 56)
    hidden = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
    layers = [model.model.multi_modal_projector.get_submodule(f"linear_{n}") for n in range(1, depth + 1)]
    for number, layer in enumerate(layers):
        hidden = layer(torch.nn.functional.gelu(hidden) if number else hidden)
    features = model.get_image_features(pixel_values=pixels, return_dict=True).pooler_output
    assert torch.allclose(features[0], hidden[0], atol=1e-6)


def test_a_recipes_settings_need_no_folder(tmp_path: Path) -> None:
    recipe = recipe_of(folders("llava-v1.5-full")[0])
    bare = {"size": 56, "crop_size": 56, "image_aspect_ratio": "pad"}
    one, other = (
        LlavaPictures(settings, recipe.config)([noise(90, 61)]) for settings in (bare, recipe.pictures)
    )
    assert torch.allclose(one["pixel_values"], other["pixel_values"], atol=1e-6)
