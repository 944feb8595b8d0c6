"""Nothing of a LoRA is left out in silence: what can't be merged is refused with its reason and figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from backends.errors import ModelDamaged, ModelUnsupported
from tests.support.loras import Tensors, adapter, llama, pair, recipe

Q = "model.layers.0.self_attn.q_proj"
K = f"base_model.model.{Q}"


def renamed(old: str, new: str) -> Callable[[], Tensors]:
    return lambda: {key.replace(old, new): tensor for key, tensor in pair(Q, 16, 16).items()}


@pytest.mark.parametrize(
    ("tensors", "config", "sentence"),
    [
        pytest.param(lambda: pair(Q, 16, 16), {"use_dora": True}, "with use_dora", id="DoRA by its setting"),
        pytest.param(
            lambda: pair(Q, 16, 16) | {f"{K}.lora_magnitude_vector": torch.ones(16)},
            {},
            "lora_magnitude_vector, which is more",
            id="DoRA by its tensors",
        ),
        pytest.param(lambda: pair(Q, 16, 16), {"peft_type": "LOHA"}, "kind LOHA", id="another kind"),
        pytest.param(lambda: pair(Q, 16, 16), {"init_lora_weights": "pissa"}, "pissa", id="changes its base"),
        pytest.param(
            lambda: pair(Q, 16, 16), {"layer_replication": [[0, 2]]}, "layer_replication", id="more layers"
        ),
        pytest.param(
            lambda: pair(Q, 16, 16) | {f"{K}.lora_B.bias": torch.ones(16)}, {}, "lora_B.bias", id="a bias"
        ),
        pytest.param(
            lambda: {key: tensor[:, :, None, None] for key, tensor in pair(Q, 16, 16).items()},
            {},
            "are 3 x 16 x 1 x 1 and 16 x 3 x 1 x 1",
            id="a convolution",
        ),
        pytest.param(lambda: pair(Q, 16, 24), {}, "for 16 x 24 weights, and in .* 16 x 16", id="width"),
        pytest.param(
            renamed("layers.0", "layers.7"),
            {},
            r"layers\.7\.self_attn\.q_proj, which base does not have \(1 of 1",
            id="a layer that is not there",
        ),
        pytest.param(
            lambda: pair(Q, 16, 16) | {"base_model.model.score.weight": torch.ones(2, 16)},
            {},
            r"score\.weight, which base does not have \(1 of 2",
            id="a part that is not there",
        ),
        pytest.param(
            lambda: pair(Q, 16, 16) | {"base_model.model.lm_head.weight": torch.ones(61, 16)},
            {},
            "for 61 x 16 weights, and in base that is 60 x 16",
            id="more words",
        ),
        pytest.param(
            lambda: pair(Q, 16, 16) | pair("layers.0.self_attn.q_proj", 16, 16), {}, "same part", id="twice"
        ),
    ],
)  # fmt: skip
def test_what_is_not_merged_is_refused_with_its_reason(
    tmp_path: Path, tensors: Callable[[], Tensors], config: dict[str, Any], sentence: str
) -> None:
    llama(tmp_path / "base")

    with pytest.raises(ModelUnsupported, match=sentence):
        recipe(adapter(tmp_path / "lora", tensors(), **config))


@pytest.mark.parametrize(
    ("tensors", "config", "sentence"),
    [
        pytest.param(lambda: pair(Q, 16, 16), {"r": 8}, "says rank 8 .* have rank 3", id="another rank"),
        pytest.param(lambda: pair(Q, 16, 16), {"lora_alpha": "x"}, "x as lora_alpha", id="no number"),
        pytest.param(lambda: pair(Q, 16, 16), {"alpha_pattern": {"(a*)*b": 1}}, "alpha_p", id="endless"),
        pytest.param(lambda: pair(Q, 16, 16), {"rank_pattern": {"(": 1}}, "rank_pattern", id="no expression"),
        pytest.param(lambda: {f"{K}.lora_A.weight": torch.ones(3, 16)}, {}, "one is missing", id="half"),
        pytest.param(
            lambda: pair(Q, 16, 16) | {f"{K}.lora_A.other.weight": torch.ones(3, 16)}, {}, "twice", id="two"
        ),
    ],
)  # fmt: skip
def test_a_damaged_adapter_says_where(
    tmp_path: Path, tensors: Callable[[], Tensors], config: dict[str, Any], sentence: str
) -> None:
    llama(tmp_path / "base")

    with pytest.raises(ModelDamaged, match=sentence):
        recipe(adapter(tmp_path / "lora", tensors(), **config))


def test_quantized_weights_are_not_added_to(tmp_path: Path) -> None:
    model = llama(tmp_path / "base")
    state = dict(model.state_dict())
    state[f"{Q}.weight"] = torch.zeros(16, 16, dtype=torch.uint8)
    save_file(state, tmp_path / "base" / "model.safetensors")

    with pytest.raises(ModelUnsupported, match=r"quantized \(uint8\)"):
        recipe(adapter(tmp_path / "lora", pair(Q, 16, 16)))


def test_a_base_in_its_authors_layout_is_refused(tmp_path: Path) -> None:
    llama(tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text(encoding="utf-8"))
    config |= {"architectures": ["LlavaLlamaForCausalLM"], "mm_vision_tower": "openai/clip"}
    (tmp_path / "base" / "config.json").write_text(json.dumps(config), encoding="utf-8")

    with pytest.raises(ModelUnsupported, match="its authors' own layout"):
        recipe(adapter(tmp_path / "lora", pair(Q, 16, 16)))
