"""What the file of a picture part says, and which towers and projectors are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from backends.conversion.checkpoint import open_checkpoint
from backends.conversion.types import Document, Layout, WeightType
from backends.errors import ModelUnsupported
from tests.backends.conversion.conftest import Folder


def document(folder: Path, kind: WeightType = WeightType.F16) -> Document:
    return open_checkpoint(folder).picture_document(Layout.ROTATED, kind)


def changed(source: Path, target: Path, part: str | None = None, **changes: Any) -> Path:
    shutil.copytree(source, target)
    path = target / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    (config[part] if part else config).update(changes)
    path.write_text(json.dumps(config), encoding="utf-8")
    return target


def test_the_starter_s_tower(checkpoint: Folder) -> None:
    made = document(checkpoint("starter"))
    assert made.architecture == "clip"
    assert {key: made.values[key] for key in made.values if key.startswith("clip.")} == {
        "clip.has_vision_encoder": True,
        "clip.has_llava_projector": True,
        "clip.projector_type": "mlp",
        "clip.use_gelu": False,
        "clip.vision.image_size": 128,
        "clip.vision.patch_size": 16,
        "clip.vision.embedding_length": 192,
        "clip.vision.feed_forward_length": 768,
        "clip.vision.projection_dim": 192,
        "clip.vision.block_count": 6,
        "clip.vision.attention.head_count": 3,
        "clip.vision.attention.layer_norm_epsilon": 1e-5,
        "clip.vision.image_mean": (0.5, 0.5, 0.5),
        "clip.vision.image_std": (0.5, 0.5, 0.5),
    }
    assert {key: made.values[key] for key in made.values if key.startswith("snug.")} == {
        "snug.layout": "rotated",
        "snug.picture.fit": "pad",
        "snug.picture.edge": 128,
        "snug.picture.filter": 3,
        "snug.picture.padding": (127, 127, 127),
    }


@pytest.mark.parametrize(
    ("layer", "stated"),
    [(-2, None), ([-2], None), (-1, (3,)), (2, None), (1, (1,)), (-3, (1,))],
    ids=str,
)
def test_the_layer_whose_features_are_taken(
    checkpoint: Folder, tmp_path: Path, layer: object, stated: tuple[int, ...] | None
) -> None:
    folder = changed(checkpoint("llava"), tmp_path / "model", vision_feature_layer=layer)
    assert document(folder).values.get("clip.vision.feature_layer") == stated


def test_tiles_of_llava_1_6_are_refused_and_its_words_are_not(checkpoint: Folder) -> None:
    """See tests/backends/engines/llamacpp/test_tiles.py for what the library makes of them."""
    with pytest.raises(ModelUnsupported, match="one tile after the other"):
        document(checkpoint("llava-next"))
    made = open_checkpoint(checkpoint("llava-next")).text_document(WeightType.Q8_0)
    assert made.architecture == "llama"


def test_a_projector_without_biases_gets_zeros(checkpoint: Folder) -> None:
    source = open_checkpoint(checkpoint("llava"))
    kept = {name: stored for name, stored in source.tensors.items() if "linear_1.bias" not in name}
    made = type(source)(source.folder, source.config, kept).picture_document(Layout.PLAIN, WeightType.F16)
    bias = next(piece for piece in made.pieces if piece.name == "mm.0.bias")
    assert (bias.source, bias.values) == ("", (0.0,) * 64)


@pytest.mark.parametrize(
    ("part", "changes", "named"),
    [
        (None, {"vision_feature_select_strategy": "full"}, "full"),
        (None, {"projector_hidden_act": "relu"}, "projector.*relu"),
        (None, {"vision_feature_layer": [-2, -5]}, "vision_feature_layer"),
        (None, {"vision_feature_layer": 9}, "vision_feature_layer"),
        ("vision_config", {"hidden_act": "relu"}, "relu"),
    ],
    ids=["with the class token", "activation", "several layers", "no such layer", "the tower's"],
)
def test_what_the_library_can_t_compute_is_refused(
    checkpoint: Folder, tmp_path: Path, part: str | None, changes: dict[str, Any], named: str
) -> None:
    folder = changed(checkpoint("llava"), tmp_path / "model", part, **changes)
    with pytest.raises(ModelUnsupported, match=named):
        document(folder)


@pytest.mark.parametrize("name", ["gemma3", "llama"])
def test_other_families_are_refused(checkpoint: Folder, name: str) -> None:
    with pytest.raises(ModelUnsupported, match="picture part"):
        document(checkpoint(name))


def test_a_tower_is_not_quantized(checkpoint: Folder) -> None:
    with pytest.raises(ModelUnsupported, match="q4_0"):
        document(checkpoint("llava"), WeightType.Q4_0)
