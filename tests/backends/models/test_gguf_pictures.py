"""How many tokens a GGUF model's picture part makes of a picture, and how wide they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backends.errors import ModelDamaged
from backends.models.identify import identify
from tests.support.gguf_files import SMALL_EYES, eyes, tiny, tower, write_gguf


@pytest.mark.parametrize(
    ("projector", "more", "tokens", "tiles", "dynamic"),
    [
        pytest.param("mlp", {}, 576, 1, False, id="LLaVA-1.5: a token a patch"),
        pytest.param(
            "mlp",
            {"clip.vision.image_grid_pinpoints": [336, 672, 672, 336, 672, 672, 1008, 336]},
            5 * 576,
            5,
            False,
            id="LLaVA-1.6: an overview and four tiles",
        ),
        pytest.param("ldpv2", {}, 144 + 2, 1, False, id="MobileVLM: four patches a token"),
        pytest.param("gemma3", {}, 36 + 2, 1, False, id="Gemma 3: sixteen patches a token"),
        pytest.param(
            "internvl",
            {"clip.vision.projector.scale_factor": 2},
            13 * 146 + 3,
            13,
            False,
            id="InternVL: 12 tiles",
        ),
        pytest.param(
            "idefics3",
            {"clip.vision.projector.scale_factor": 4, "clip.vision.preproc_image_size": 1344},
            17 * 38 + 4,
            17,
            False,
            id="SmolVLM: 16 tiles",
        ),
        pytest.param("resampler", {"clip.minicpmv_version": 3}, 670, 10, False, id="MiniCPM-V: 64 queries"),
        pytest.param(
            "qwen2vl_merger", {}, 4098, 1, True, id="Qwen2-VL: as many as the picture has pixels for"
        ),
        pytest.param("qwen2.5vl_merger", {}, 4098, 1, True, id="Qwen2.5-VL"),
        pytest.param("qwen3vl_merger", {}, 4098, 1, True, id="Qwen3-VL"),
        pytest.param("pixtral", {"clip.vision.spatial_merge_size": 2}, 1024 + 64 + 2, 1, True, id="Pixtral"),
    ],
)
def test_tokens_of_a_picture(
    tmp_path: Path, *, projector: str, more: dict[str, Any], tokens: int, tiles: int, dynamic: bool
) -> None:
    tiny(tmp_path / "model.gguf")
    eyes(tmp_path / "mmproj.gguf", projector, more=more)

    vision = identify(tmp_path).vision

    assert vision is not None
    assert (vision.tokens_per_image, vision.max_tiles, vision.dynamic) == (tokens, tiles, dynamic)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        pytest.param("mm.2.weight", (512, 64), id="the last of an MLP: LLaVA, Qwen-VL"),
        pytest.param("mm.model.mlp.3.weight", (512, 64), id="InternVL"),
        pytest.param("mm.model.fc.weight", (512, 64), id="SmolVLM"),
        pytest.param("mm.input_projection.weight", (64, 512), id="Gemma 3"),
        pytest.param("resampler.proj.weight", (512, 512), id="MiniCPM-V"),
    ],
)
def test_the_width_that_a_projector_gives_out(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    metadata, tensors = tower(**SMALL_EYES)
    kept = [entry for entry in tensors if not entry[0].startswith("mm.")]
    write_gguf(tmp_path / "mmproj.gguf", metadata, [*kept, (name, shape, "f16")])

    with pytest.raises(ModelDamaged, match="width 512, and this one has 256"):
        identify(tiny(tmp_path / "model.gguf"))
