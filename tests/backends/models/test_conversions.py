"""Which weights are in no file as they are used, by transformers' own rules and without importing it.

That loading writes just those to the disk is shown by tests/backends/engines/test_disk_space.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backends.models import conversion_rules, conversions
from backends.models.conversion_rules import written_rules
from backends.models.identify import identify
from backends.models.types import ModuleKind
from tests.support import checkpoints
from tests.support.shapes import Shapes, write_model

WIDTH, INNER, EXPERTS = 64, 32, 4


def moe(part: str, names: tuple[str, str, str]) -> Shapes:
    """Two layers with numbered experts below `part`, whose three matrices have `names`."""
    found: Shapes = {"model.embed_tokens.weight": (320, WIDTH), "lm_head.weight": (320, WIDTH)}
    for layer in range(2):
        at = f"model.layers.{layer}"
        found[f"{at}.self_attn.q_proj.weight"] = (WIDTH, WIDTH)
        found[f"{at}.input_layernorm.weight"] = (WIDTH,)
        for expert in range(EXPERTS):
            for name in names:
                found[f"{at}.{part}.experts.{expert}.{name}.weight"] = (INNER, WIDTH)
    return found


def config(family: str, architecture: str, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 320}
    return {"model_type": family, "architectures": [architecture], **sizes, **more}


MIXTRAL = (config("mixtral", "MixtralForCausalLM"), moe("block_sparse_moe", ("w1", "w2", "w3")))
QWEN = (config("qwen3_moe", "Qwen3MoeForCausalLM"), moe("mlp", ("gate_proj", "up_proj", "down_proj")))


@pytest.mark.parametrize(("stated", "shapes"), [MIXTRAL, QWEN], ids=["mixtral", "qwen3_moe"])
def test_numbered_experts_are_put_together_and_nothing_else(
    stated: dict[str, Any], shapes: Shapes, tmp_path: Path
) -> None:
    for module in identify(write_model(tmp_path, stated, shapes)).modules:
        experts = 3 * EXPERTS * INNER * WIDTH if module.kind is ModuleKind.LAYER else 0
        assert module.converted_parameters == experts, module.name
        assert module.parameters >= experts


@pytest.mark.parametrize(
    "write", [checkpoints.llava_15_7b, checkpoints.qwen25_vl_7b, checkpoints.starter_like, checkpoints.llama]
)
def test_renamed_weights_are_read_where_they_lie(write: Callable[[Path], Path], tmp_path: Path) -> None:
    assert not any(module.converted_parameters for module in identify(write(tmp_path / "m")).modules)


def test_without_the_rules_numbered_experts_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version may keep them elsewhere."""
    monkeypatch.setattr(conversions, "rules_are_known", lambda: False)
    model = identify(write_model(tmp_path, *MIXTRAL))
    assert sum(module.converted_parameters for module in model.modules) == 2 * 3 * EXPERTS * INNER * WIDTH


@pytest.mark.parametrize(
    ("key", "holds"),
    [
        ("mixtral", "MergeModulelist"),
        ("qwen3_moe", "mlp.experts.*.down_proj.weight"),
        ("ernie4_5_moe", "mlp.experts.*.down_proj.weight"),
        ("qwen3_vl_moe", "Transpose"),
    ],
    ids=["of its own", "those of a twin", "copied, and more", "turned"],
)
def test_where_rules_are_found(key: str, holds: str) -> None:
    assert conversion_rules.rules_are_known()
    assert any(holds in text for text in written_rules(key))


def test_an_unknown_family_has_none() -> None:
    assert written_rules("from_the_future") == ()
