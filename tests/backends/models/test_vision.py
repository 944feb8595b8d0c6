"""How many tokens a picture becomes, by family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backends.models.identify import identify
from backends.models.types import VisionGeometry
from backends.models.vision import has_vision, vision_geometry
from tests.support import checkpoints

CLIP_336 = {"image_size": 336, "patch_size": 14, "hidden_size": 1024, "num_hidden_layers": 24}
SIGLIP_384 = {"image_size": 384, "patch_size": 14, "hidden_size": 1152, "num_hidden_layers": 26}
PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
ONEVISION = [[384 * rows, 384 * columns] for rows in range(1, 7) for columns in range(1, 7)]


def geometry(config: dict[str, Any], processor: dict[str, Any] | None = None) -> VisionGeometry:
    found = vision_geometry(config, processor or {}, (), {})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("config", "processor", "tokens", "tiles"),
    [
        pytest.param({"model_type": "llava", "vision_config": CLIP_336}, {}, 576, 1, id="LLaVA-1.5"),
        pytest.param(
            {"model_type": "llava", "vision_config": CLIP_336, "image_seq_length": 99},
            {},
            576,
            1,
            id="LLaVA counts patches, whatever image_seq_length says",
        ),
        pytest.param(
            {
                "model_type": "cogvlm",
                "vision_config": {"image_size": 490, "patch_size": 14, "num_hidden_layers": 63},
            },
            {},
            1227,
            1,
            id="CogVLM",
        ),
        pytest.param(
            {
                "model_type": "cogvlm",
                "vision_config": {"image_size": 1344, "patch_size": 14, "num_hidden_layers": 63},
                "spatial_merge_size": 2,
            },
            {},
            2306,
            1,
            id="CogVLM2: four patches a token",
        ),
        pytest.param(
            {"model_type": "phi4_multimodal", "vision_config": {"image_size": 448, "patch_size": 14}},
            {"dynamic_hd": 36},
            # Overview and 5 x 5 crops of 256 tokens, breaks behind rows of both, one between.
            256 + 25 * 256 + 16 + 5 * 16 + 1,
            26,
            id="Phi-4-multimodal: five crops of 448 px to a side of 2,048",
        ),
        pytest.param(
            {"model_type": "minicpmv4_6", "vision_config": {"image_size": 980, "patch_size": 14}},
            {"max_slice_nums": 9, "scale_resolution": 448},
            10 * (64 + 12 + 2) + 9 + 3,
            10,
            id="MiniCPM-V: an overview and nine slices",
        ),
        pytest.param(
            {
                "model_type": "mllama",
                "vision_config": {"image_size": 560, "patch_size": 14, "max_num_tiles": 4},
            },
            {},
            1,
            4,
            id="Mllama: one marker, four tiles beside the prompt",
        ),
        pytest.param(
            {"model_type": "llava_next", "vision_config": CLIP_336, "image_grid_pinpoints": PINPOINTS},
            {},
            576 + 4 * 576 + 48,
            5,
            id="LLaVA-1.6: base, four tiles, a newline a row",
        ),
        pytest.param(
            {"model_type": "llava_onevision", "vision_config": SIGLIP_384, "image_grid_pinpoints": ONEVISION},
            {},
            729 + 128 * 51 + 128,
            37,
            id="LLaVA-OneVision: worst at 5 x 2 tiles scaled to nine",
        ),
        pytest.param(
            {
                "model_type": "smolvlm",
                "vision_config": {**SIGLIP_384, "image_size": 512, "patch_size": 16},
                "scale_factor": 4,
            },
            {"size": {"longest_edge": 2048}, "max_image_size": {"longest_edge": 512}},
            17 * (64 + 2) + 4 + 3,
            17,
            id="SmolVLM: sixteen tiles and an overview",
        ),
        pytest.param(
            {
                "model_type": "gemma3",
                "vision_config": {**SIGLIP_384, "image_size": 896},
                "mm_tokens_per_image": 256,
            },
            {},
            258,
            1,
            id="Gemma 3: pooled to 256",
        ),
        pytest.param(
            {"model_type": "paligemma", "vision_config": {**SIGLIP_384, "image_size": 224}},
            {},
            256,
            1,
            id="PaliGemma 224",
        ),
        pytest.param(
            {
                "model_type": "internvl",
                "vision_config": {"image_size": [448, 448], "patch_size": [14, 14], "hidden_size": 1024},
                "downsample_ratio": 0.5,
                "image_seq_length": 256,
            },
            {"max_patches": 12},
            13 * 256 + 2,
            13,
            id="InternVL: twelve crops and a thumbnail",
        ),
        pytest.param(
            {
                "model_type": "qianfan_ocr",
                "vision_config": {"image_size": 448, "patch_size": 14},
                "downsample_ratio": 0.5,
            },
            {"max_patches": 12},
            13 * 256 + 2,
            13,
            id="Qianfan-OCR: as InternVL",
        ),
        pytest.param(
            {
                "model_type": "mistral3",
                "vision_config": {"model_type": "pixtral", "image_size": 1540, "patch_size": 14},
                "spatial_merge_size": 2,
            },
            {"size": {"longest_edge": 1540}, "patch_size": 14},
            55 * 56,
            1,
            id="Mistral 3: a break behind each row",
        ),
        pytest.param(
            {"model_type": "molmo2", "vision_config": {"image_size": 378, "patch_size": 14}},
            {"max_crops": 8, "size": {"height": 378, "width": 378}},
            # Eight crops below each other, 160 by 27 patches, and the overview; a token ends each row.
            80 * 15 + 14 * 15 + 4,
            9,
            id="Molmo2: eight crops that overlap",
        ),
        pytest.param(
            {"model_type": "idefics2", "vision_config": {"image_size": 980, "patch_size": 14}},
            {"do_image_splitting": True},
            5 * 66,
            5,
            id="Idefics2: resampled to 64, split into quarters",
        ),
    ],
)
def test_tokens_and_tiles(config: dict[str, Any], processor: dict[str, Any], tokens: int, tiles: int) -> None:
    found = geometry(config, processor)

    assert (found.tokens_per_image, found.max_tiles) == (tokens, tiles)
    assert not found.dynamic


@pytest.mark.parametrize(
    ("max_pixels", "tokens"),
    [
        pytest.param(1280 * 28 * 28, 1282, id="the processor's limit"),
        pytest.param(12_845_056, 2048 * 2048 // 784 + 2, id="stored pictures have at most 2,048 px a side"),
    ],
)
def test_qwen_takes_as_many_tokens_as_pixels(max_pixels: int, tokens: int) -> None:
    config = {
        "model_type": "qwen2_vl",
        "vision_config": {
            "depth": 32,
            "embed_dim": 1280,
            "hidden_size": 3584,
            "patch_size": 14,
            "spatial_merge_size": 2,
        },
    }

    found = geometry(config, {"max_pixels": max_pixels})

    assert found.dynamic
    assert found.tokens_per_image == tokens
    assert found.patches == (tokens - 2) * 4
    assert found.hidden == 1280


@pytest.mark.parametrize(
    ("family", "patch", "limit", "tokens"),
    [
        pytest.param("qwen2_5_vl", 14, 12_845_056, 5349 + 2, id="Qwen2.5-VL"),
        pytest.param("qwen3_vl", 16, 16_777_216, 4096 + 2, id="Qwen3-VL: larger patches, fewer tokens"),
        pytest.param("qwen3_vl_moe", 16, 1_048_576, 1024 + 2, id="Qwen3-VL-MoE, limited by its processor"),
        pytest.param("glm4v", 14, 9_633_792, 5349 + 2, id="GLM-4.1V"),
        pytest.param("ernie4_5_vl_moe", 14, 4_816_896, 5349 + 2, id="ERNIE-4.5-VL"),
    ],
)
def test_dynamic_families_count_pixels_of_their_own_patches(
    family: str, patch: int, limit: int, tokens: int
) -> None:
    vision = {"depth": 24, "hidden_size": 1152, "patch_size": patch, "spatial_merge_size": 2}

    found = geometry({"model_type": family, "vision_config": vision}, {"size": {"longest_edge": limit}})

    assert found.dynamic
    assert found.tokens_per_image == tokens


@pytest.mark.parametrize(
    ("limit", "tokens"),
    [
        pytest.param(16384, 64 * 64 + 2 * 74 + 1, id="its default, a row and a column of padding"),
        pytest.param(1024, 16 * 16 + 2 * 74 + 1, id="a lower limit"),
        pytest.param(1 << 20, 74 * 74, id="no more than a stored picture has"),
    ],
)
def test_kimi_limits_patches_and_pads_them(limit: int, tokens: int) -> None:
    config = {"model_type": "kimi_k25", "vision_config": {"patch_size": 14}}

    found = geometry(config, {"max_patches": limit, "patch_size": 14, "merge_size": 2})

    assert not found.dynamic
    assert (found.tokens_per_image, found.patches) == (tokens + 2, tokens * 4)


def test_the_processor_s_patches_count_and_not_the_tower_s() -> None:
    config = {"model_type": "qwen3_vl", "vision_config": {"patch_size": 16, "spatial_merge_size": 2}}

    found = geometry(config, {"size": {"longest_edge": 28 * 28 * 640}, "patch_size": 14, "merge_size": 2})

    assert found.dynamic
    assert found.tokens_per_image == 642


def test_a_text_model_has_no_vision(tmp_path: Path) -> None:
    assert identify(checkpoints.llama(tmp_path / "m")).vision is None
    assert not has_vision({"model_type": "llama"})


@pytest.mark.parametrize(
    "point",
    [[[1, 2], 672], [{"height": 336}, 672], [672], [0, 672], ["672", 336], [True, 672], 672],
    ids=str,
)
def test_a_pinpoint_that_is_no_pair_of_numbers_counts_for_nothing(point: Any) -> None:
    config = {"model_type": "llava_next", "vision_config": CLIP_336}

    found = geometry({**config, "image_grid_pinpoints": [point, *PINPOINTS]})

    assert found == geometry({**config, "image_grid_pinpoints": PINPOINTS})
