"""Everything that may be wrong with a model, a map or a setting is named before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backends.errors import DeviceMapInvalid, InputError, ModelDamaged, SettingInvalid
from backends.models.identify import identify
from backends.models.types import ModelInfo
from backends.placement.planner import plan
from backends.placement.types import Overrides, PlanRequest
from backends.presets import Preset
from tests.support import checkpoints
from tests.support.machines import gpu, machine
from tests.support.shapes import Shapes, write_model

ONE = machine(gpu(0), ram=64)
LAYERS = "model.language_model.layers"


def _without_sizes(folder: Path) -> None:
    """No embedding to measure, and a config that says nothing."""
    shapes: Shapes = {f"model.layers.{at}.mlp.up_proj.weight": (8, 4) for at in range(2)}
    write_model(folder, {"model_type": "llama"}, shapes)


def _garbage_header(folder: Path) -> None:
    checkpoints.starter_like(folder)
    (folder / "model.safetensors").write_bytes(b"\xde\xad\xbe\xef" * 64)


def _missing_shard(folder: Path) -> None:
    checkpoints.llava_15_7b(folder)
    (folder / "model-00002-of-00003.safetensors").unlink()


def _index_with_a_tensor_too_many(folder: Path) -> None:
    checkpoints.llava_15_7b(folder)
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text(encoding="utf-8"))
    content["weight_map"]["model.layers.99.extra"] = "model-00001-of-00003.safetensors"
    index.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        pytest.param(_without_sizes, "Neither config.json nor the weight files tell", id="no sizes"),
        pytest.param(_garbage_header, "is not a safetensors file", id="a header of garbage"),
        pytest.param(_missing_shard, "1 of 3 weight files are missing: model-00002", id="a missing shard"),
        pytest.param(
            _index_with_a_tensor_too_many, "lacks 1 tensors that the index places", id="a missing tensor"
        ),
    ],
)
def test_models(tmp_path: Path, make: Any, sentence: str) -> None:
    make(tmp_path / "m")

    with pytest.raises(ModelDamaged, match=sentence):
        identify(tmp_path / "m")


@pytest.mark.parametrize(
    ("overrides", "kind", "sentence"),
    [
        pytest.param({"context_tokens": 8192}, SettingInvalid, "at most 4,096 tokens", id="beyond the model"),
        pytest.param(
            {"max_memory": (("cuda:0", -1),)}, SettingInvalid, "can't be negative", id="a negative limit"
        ),
        pytest.param({"gpu_layers": -1}, SettingInvalid, "0 to 32", id="negative layers"),
        pytest.param(
            {"device_map": (("", "cpu"), (f"{LAYERS}.1", "cuda:0"), (f"{LAYERS}.1.", "cpu"))},
            DeviceMapInvalid,
            "placed twice",
            id="overlapping keys: the same module",
        ),
        pytest.param(
            {"device_map": (("", "cpu"), ("model.layers.1", "cuda:0"), (f"{LAYERS}.1", "cpu"))},
            DeviceMapInvalid,
            "placed twice",
            id="overlapping keys: by an old and a new name",
        ),
        pytest.param(
            {"device_map": (("", "cpu"), (f"{LAYERS}.1.self_attn", "cuda:0"))},
            DeviceMapInvalid,
            "must stay on one device",
            id="overlapping keys: a part of a layer",
        ),
    ],
)
def test_settings(llava: ModelInfo, overrides: dict[str, Any], kind: type[InputError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        plan(ONE, llava, PlanRequest("m", Preset.CUSTOM, Overrides(**overrides)))


@pytest.mark.parametrize(
    ("preset", "overrides"), [("low", {}), ("custom", {"precision": "int8"}), ("high", {}), ("auto", {})]
)
def test_a_limit_of_nothing_is_no_crash(llava: ModelInfo, preset: str, overrides: dict[str, Any]) -> None:
    limits = (("cuda:0", 0), ("cpu", 0), ("disk", 0))

    made = plan(ONE, llava, PlanRequest("m", Preset(preset), Overrides(max_memory=limits, **overrides)))

    assert made.verdict == "no"


def test_a_mode_without_layers_in_ram_is_said(llava: ModelInfo) -> None:
    made = plan(ONE, llava, PlanRequest("m", Preset.CUSTOM, Overrides(cpu_layers_mode="stream")))

    assert made.cpu_layers_mode is None
    assert any(
        "Where layers in RAM run (stream) makes no difference" in str(reason) for reason in made.reasons
    )
