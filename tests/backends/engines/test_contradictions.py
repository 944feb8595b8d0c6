"""What the headers already contradict, the load refuses, too; what it takes, identify takes as well."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Event as Flag

import pytest

from backends.engines.transformers_engine import TransformersEngine
from backends.errors import ModelDamaged
from backends.models.identify import identify
from tests.support.plans import make_plan


def changed(folder: Path, target: Path, part: str | None, changes: dict[str, int]) -> Path:
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    (config if part is None else config[part]).update(changes)
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return target


@pytest.mark.parametrize(
    ("model", "part", "changes"),
    [
        ("llava", "text_config", {"hidden_size": 128}),
        ("llava", "text_config", {"vocab_size": 32_000}),
        ("llava", "text_config", {"num_key_value_heads": 1}),
        ("llava", "text_config", {"head_dim": 32}),
        ("llava", "text_config", {"intermediate_size": 256}),
        ("llava", "text_config", {"num_hidden_layers": 5}),
        ("llava", "vision_config", {"hidden_size": 32}),
        ("gemma3", "text_config", {"num_key_value_heads": 4}),
        ("llama", None, {"intermediate_size": 64}),
        ("llama", None, {"vocab_size": 64}),
    ],
    ids=str,
)
def test_plan_and_load_agree(
    model: str, part: str | None, changes: dict[str, int], models: Callable[[str], Path], tmp_path: Path
) -> None:
    assert identify(models(model)).weights_present
    folder = changed(models(model), tmp_path / "模型 changed", part, changes)
    with pytest.raises(ModelDamaged):
        TransformersEngine().load(make_plan(folder), lambda _: None, Flag())
    with pytest.raises(ModelDamaged):
        identify(folder)
