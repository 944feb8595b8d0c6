"""The modules read from headers are those of the model that transformers really builds.

A child process saves tiny models of many families and lists their modules; torch stays out of this one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backends.models.identify import identify
from backends.models.types import ModelInfo, ModuleKind
from tests.support.real_trees import families, published
from tests.support.shapes import write_model


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("real trees")
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.real_trees", str(folder)],
        capture_output=True,
        check=True,
        timeout=240,
        cwd=Path(__file__).parents[3],
    )
    trees: dict[str, Any] = json.loads(done.stdout)
    return folder, trees


def compare(model: ModelInfo, tree: dict[str, Any]) -> None:
    """Every module exists, holds what was counted, and every parameter has exactly one module."""
    for module in model.modules:
        inside = tree["modules"].get(module.name, tree["names"].get(module.name))
        assert inside is not None, f"the loaded model has no {module.name}"
        if not (module.kind is ModuleKind.HEAD and model.text.tied_embeddings):
            assert inside == module.parameters, module.name
    for name in tree["names"]:
        owners = [m.name for m in model.modules if name == m.name or name.startswith(f"{m.name}.")]
        assert len(owners) == 1, (name, owners)
    assert model.parameters == tree["parameters"]


@pytest.mark.parametrize("family", families())
def test_modules_are_those_of_the_loaded_model(family: str, real: tuple[Path, dict[str, Any]]) -> None:
    folder, trees = real

    model = identify(folder / family)

    compare(model, trees[family])
    assert model.layers == 3
    assert (model.text.hidden, model.text.kv_heads, model.text.head_dim) == (64, 1, 32)
    assert (model.vision is None) == family.startswith(("llama", "qwen2-tied")) or family == "qwen2"


@pytest.mark.parametrize("family", published())
def test_headers_alone_tell_the_modules_of_every_published_family(
    family: str, real: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    tree = real[1][f"published {family}"]
    shapes = {name: tuple(shape) for name, shape in tree["shapes"].items()}

    model = identify(write_model(tmp_path / family, tree["config"], shapes, dtype="BF16", shards=3))

    compare(model, tree)
    assert not model.weights_present
    # What transformers never splits over devices lies inside one module.
    for path in tree["no_split"]:
        assert any(path == part.name or path.startswith(f"{part.name}.") for part in model.modules), path


@pytest.mark.parametrize(
    ("family", "routed"),
    [
        pytest.param("mixtral", 2 / 8, id="Mixtral: two of eight"),
        pytest.param("qwen3_moe", 8 / 128, id="Qwen3-MoE: eight of 128"),
        pytest.param("qwen3_vl_moe", 4 / 60, id="Qwen3-VL-MoE: four of sixty"),
        pytest.param("gpt_oss", 4 / 128, id="gpt-oss: four of 128"),
    ],
)
def test_a_token_passes_the_experts_that_it_visits(
    family: str, routed: float, real: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    tree = real[1][f"published {family}"]
    shapes = {name: tuple(shape) for name, shape in tree["shapes"].items()}
    model = identify(write_model(tmp_path / family, tree["config"], shapes, dtype="BF16"))
    experts = sum(count for name, count in tree["names"].items() if ".experts." in name)

    assert experts > 0
    assert model.parameters == tree["parameters"]
    expected = model.parameters - experts * (1 - routed)
    assert model.active_parameters == pytest.approx(expected, rel=1e-6)


def rename(folder: Path, target: Path, pairs: list[tuple[str, str]]) -> Path:
    """Copy a saved model's headers under other tensor names."""
    model = identify(folder)
    shapes: dict[str, tuple[int, ...]] = {}
    raw = (folder / "model.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        for old, new in pairs:
            if name.startswith(old):
                name = new + name[len(old) :]  # noqa: PLW2901
                break
        shapes[name] = tuple(entry["shape"])
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert model.parameters > 0
    return write_model(target, config, shapes, dtype="F32")


@pytest.mark.parametrize(
    ("family", "pairs"),
    [
        pytest.param(
            "llava-clip-llama",
            [
                ("model.language_model.", "language_model.model."),
                ("lm_head", "language_model.lm_head"),
                ("vision_tower.vision_model.", "vision_tower.vision_model."),
                ("vision_tower.", "vision_tower.vision_model."),
                ("model.vision_tower.", "vision_tower.vision_model."),
                ("model.multi_modal_projector", "multi_modal_projector"),
            ],
            id="the layout that llava-hf publishes",
        ),
        pytest.param(
            "llava-clip-llama",
            [
                ("language_model.model.", "model.language_model."),
                ("language_model.lm_head", "lm_head"),
                ("vision_tower", "model.vision_tower"),
                ("multi_modal_projector", "model.multi_modal_projector"),
            ],
            id="the layout of the loaded model",
        ),
        pytest.param(
            "qwen2-vl",
            [
                ("model.language_model.", "model."),
                ("model.visual.", "visual."),
            ],
            id="the layout that Qwen publishes",
        ),
    ],
)
def test_published_layouts_map_to_the_same_modules(
    family: str, pairs: list[tuple[str, str]], real: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, trees = real

    compare(identify(rename(folder / family, tmp_path / "renamed", pairs)), trees[family])
