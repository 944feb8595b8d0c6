"""A model that wants its publisher's code is answered with the nearest one that needs none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backends.errors import ModelUnsupported
from backends.models import alternatives
from backends.models.alternatives import Native, nearest_native
from backends.models.identify import identify
from backends.models.registry import known_types
from tests.support.shapes import write_model

SEES = {"vision_config": {}}


@pytest.mark.parametrize(
    ("config", "model_type"),
    [
        ({"model_type": "qwen", "architectures": ["QWenLMHeadModel"], "visual": {}}, "qwen2_5_vl"),
        ({"model_type": "qwen", "architectures": ["QWenLMHeadModel"]}, "qwen3"),
        ({"model_type": "internvl_chat"} | SEES, "internvl"),
        ({"model_type": "internlmxcomposer2"} | SEES, "internvl"),
        ({"model_type": "internlm2"}, "internlm3"),
        ({"model_type": "minicpmv"}, "minicpmv4_6"),
        ({"model_type": "phi3_v", "img_processor": {}}, "phi4_multimodal"),
        ({"model_type": "deepseek_vl_v2"} | SEES, "deepseek_vl"),
        ({"architectures": ["CogAgentForCausalLM"]} | SEES, "glm4v"),
        ({"model_type": "chatglm", "architectures": ["ChatGLMModel"]}, "glm4"),
        ({"model_type": "chatglm", "architectures": ["ChatGLMModel"]} | SEES, "glm4v"),
        ({"model_type": "moondream1"}, "smolvlm"),
    ],
    ids=lambda value: (
        str(value.get("architectures", value.get("model_type"))) if isinstance(value, dict) else ""
    ),
)
def test_the_nearest_native_model_is_of_the_same_kind(config: dict[str, Any], model_type: str) -> None:
    found = nearest_native(config)
    assert found is not None
    assert found.model_type == model_type


def test_a_family_that_nobody_knows_has_none() -> None:
    assert nearest_native({"model_type": "zzz", "architectures": [7]}) is None
    assert nearest_native({}) is None


def test_every_alternative_runs_with_the_installed_transformers() -> None:
    offered = [*alternatives._NEAREST.values(), *alternatives._SEEING.values()]
    assert all(isinstance(native, Native) for native in offered)
    known = known_types()
    text_too = known.chat | known.text
    assert {native.model_type for native in offered} <= text_too


def test_the_refusal_names_reason_and_alternative(tmp_path: Path) -> None:
    config = {"model_type": "internvl_chat", "auto_map": {"AutoModel": "modeling.Model"}, "vision_config": {}}
    with pytest.raises(ModelUnsupported) as caught:
        identify(write_model(tmp_path / "m", config, {"a.weight": (2, 2)}))
    assert "program code from its folder, which Snug never executes" in str(caught.value)
    assert "OpenGVLab/InternVL3-1B-hf" in str(caught.value)
