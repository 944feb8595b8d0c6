"""Pictures for llama.cpp have, to the pixel, what transformers' own processors make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import AutoImageProcessor

from backends.conversion.fit import picture_values
from backends.engines.llamacpp.pictures import fit_picture, picture_geometry
from backends.models.gguf_header import read_gguf_header
from tests.support import gguf_files

SIDE = 48
CLIP: dict[str, Any] = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": SIDE},
    "crop_size": {"height": SIDE, "width": SIDE},
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
PROCESSORS: dict[str, dict[str, Any]] = {
    "shortest edge and middle": CLIP,
    "a wider edge": CLIP | {"size": {"shortest_edge": 61}},
    "a narrower edge": CLIP | {"size": {"shortest_edge": 37}},
    "bilinear": CLIP | {"resample": 2},
    "stretched": CLIP | {"size": {"height": SIDE, "width": SIDE}, "do_center_crop": False},
    "padded": CLIP | {"image_processor_type": "LlavaImageProcessor", "do_pad": True},
    "padded in gray": CLIP
    | {"image_processor_type": "LlavaImageProcessor", "do_pad": True, "image_mean": [0.5, 0.5, 0.5]},
    "padded, wider": CLIP
    | {"image_processor_type": "LlavaImageProcessor", "do_pad": True, "size": {"shortest_edge": 55}},
}
SIZES = ((SIDE, SIDE), (97, 61), (61, 97), (333, 50), (50, 331), (1, 1), (3, 200), (49, 48), (640, 480))


@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels(name: str, tmp_path: Path) -> None:
    settings = PROCESSORS[name]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil", local_files_only=True)
    values = picture_values(tmp_path, settings, SIDE)
    listed = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    header = read_gguf_header(gguf_files.eyes(tmp_path / "mmproj.gguf", image=SIDE, more=listed))
    geometry = picture_geometry(header)
    mean, std = (np.array(settings[key]).reshape(3, 1, 1) for key in ("image_mean", "image_std"))
    chance = np.random.default_rng(1)
    for width, height in SIZES:
        image = Image.fromarray(chance.integers(0, 256, (height, width, 3), np.uint8))
        theirs = np.asarray(processor(image, return_tensors="np")["pixel_values"][0], np.float64)
        expected = np.rint((theirs * std + mean) * 255).astype(np.uint8)
        ours = np.asarray(fit_picture(image, geometry)).transpose(2, 0, 1)
        assert np.array_equal(ours, expected), (width, height)
