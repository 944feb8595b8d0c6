"""A PEFT LoRA over a native model is merged exactly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.loras import adapter, gpt2, llama, llava, mixtral, pair, product, recipe
from tests.support.recipes import load

IDS = torch.tensor([[1, 5, 9, 33, 2, 7]])


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


def check(folder: Path, expected: Any) -> None:
    """The recipe's model is `expected`, and answers as that does."""
    model = load(recipe(folder), type(expected))
    assert (logits(model) - logits(expected)).abs().max() < 1e-5
    state = model.state_dict()
    for name, tensor in expected.state_dict().items():
        assert torch.allclose(state[name], tensor, atol=1e-6), name


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_products_are_added_to_the_weights_they_are_for(tmp_path: Path, ending: str) -> None:
    model = llama(tmp_path / "base")
    before = logits(model)
    query, down = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"
    tensors = pair(query, 16, 16) | pair(down, 16, 24)
    with torch.no_grad():
        for path in (query, down):
            model.get_submodule(path).weight += product(tensors, path, 2.0)

    check(adapter(tmp_path / "lora", tensors, ending), model)

    assert (logits(model) - before).abs().max() > 0.1


def test_the_base_s_own_files_may_be_pickled(tmp_path: Path) -> None:
    model = llama(tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "base" / "pytorch_model.bin")
    path = "model.layers.0.self_attn.v_proj"
    tensors = pair(path, 8, 16)
    model.get_submodule(path).weight.data += product(tensors, path, 2.0)

    check(adapter(tmp_path / "lora", tensors), model)


@pytest.mark.parametrize(
    ("config", "scales"),
    [
        pytest.param({}, (2.0, 2.0), id="alpha over rank"),
        pytest.param({"use_rslora": True}, (6 / math.sqrt(3), 6 / math.sqrt(3)), id="over its root"),
        pytest.param({"alpha_pattern": {"q_proj": 9}}, (3.0, 2.0), id="another alpha for some"),
        pytest.param({"alpha_pattern": {r"layers\.1\..*": 1.5}}, (2.0, 0.5), id="by an expression"),
        pytest.param(
            {"r": 8, "rank_pattern": {"q_proj": 3, "layers.1.mlp.up_proj": 3}}, (2, 2), id="own ranks"
        ),
        pytest.param({"lora_alpha": 0}, (0.0, 0.0), id="nothing added"),
    ],
)
def test_the_factor_is_what_the_config_says(
    tmp_path: Path, config: dict[str, Any], scales: tuple[float, float]
) -> None:
    llama(tmp_path / "base")
    tensors = pair("model.layers.0.self_attn.q_proj", 16, 16) | pair("model.layers.1.mlp.up_proj", 24, 16)

    sources = recipe(adapter(tmp_path / "lora", tensors, **config)).sources

    found = {name: source.deltas[0].scale for name, source in sources.items() if source.deltas}
    assert found == pytest.approx(
        {"model.layers.0.self_attn.q_proj.weight": scales[0], "model.layers.1.mlp.up_proj.weight": scales[1]}
    )


@pytest.mark.parametrize(
    ("path", "loaded"),
    [
        ("model.language_model.layers.1.self_attn.q_proj", "model.language_model.layers.1.self_attn.q_proj"),
        ("language_model.model.layers.1.self_attn.q_proj", "model.language_model.layers.1.self_attn.q_proj"),
        ("model.layers.1.self_attn.q_proj", "model.language_model.layers.1.self_attn.q_proj"),
        (
            "vision_tower.vision_model.encoder.layers.1.self_attn.q_proj",
            "model.vision_tower.encoder.layers.1.self_attn.q_proj",
        ),
    ],
    ids=["today's path", "an older path", "trained on the language model alone", "the tower's q_proj"],
)
def test_paths_of_older_versions_mean_the_same_part(tmp_path: Path, path: str, loaded: str) -> None:
    """q_proj of block 1 is in the tower and in the language model, both 16 x 16."""
    model = llava(tmp_path / "base")
    tensors = pair(path, 16, 16)
    model.get_submodule(loaded).weight.data += product(tensors, path, 2.0)

    folder = adapter(tmp_path / "lora", tensors)

    found = recipe(folder).sources
    assert [name for name, source in found.items() if source.deltas] == [f"{loaded}.weight"]
    check(folder, model)


def test_weights_stored_as_inputs_by_outputs_are_added_to_turned(tmp_path: Path) -> None:
    """GPT-2's matrices; one of them is square."""
    model = gpt2(tmp_path / "base")
    fused, square = "transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_proj"
    tensors = pair(fused, 48, 16) | pair(square, 16, 16)
    with torch.no_grad():
        for path in (fused, square):
            model.get_submodule(path).weight += product(tensors, path, 2.0).T

    check(adapter(tmp_path / "lora", tensors, fan_in_fan_out=True), model)


def test_experts_that_loading_joins_are_added_to_before(tmp_path: Path) -> None:
    model = mixtral(tmp_path / "base")
    path = "model.layers.1.block_sparse_moe.experts.2.w2"
    tensors = pair(path, 16, 24)
    name = "model.layers.1.mlp.experts.down_proj"
    model.get_parameter(name).data[2] += product(tensors, path, 2.0)

    check(adapter(tmp_path / "lora", tensors), model)


@pytest.mark.parametrize("tied", [False, True])
def test_an_embedding_s_lora_changes_the_embedding_alone(tmp_path: Path, tied: bool) -> None:
    model = llama(tmp_path / "base", tie_word_embeddings=tied)
    tensors = {
        "base_model.model.model.embed_tokens.lora_embedding_A": torch.randn(3, 60) * 0.3,
        "base_model.model.model.embed_tokens.lora_embedding_B": torch.randn(16, 3) * 0.3,
    }
    a, b = tensors.values()
    if tied:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    model.model.embed_tokens.weight.data += 2.0 * (b @ a).T

    check(adapter(tmp_path / "lora", tensors), model)


def test_a_tied_head_s_lora_changes_the_head_alone(tmp_path: Path) -> None:
    model = llama(tmp_path / "base", tie_word_embeddings=True)
    tensors = pair("lm_head", 60, 16)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight + product(tensors, "lm_head", 2.0))

    check(adapter(tmp_path / "lora", tensors), model)


@pytest.mark.parametrize(
    "key",
    ["model.norm.weight", "model.norm.modules_to_save.weight", "model.norm.modules_to_save.default.weight"],
)
def test_weights_that_were_saved_whole_take_the_place_of_the_base_s(tmp_path: Path, key: str) -> None:
    model = llama(tmp_path / "base")
    tensors = {f"base_model.model.{key}": torch.randn(16)}
    model.model.norm.weight.data = tensors[f"base_model.model.{key}"]

    check(adapter(tmp_path / "lora", tensors, modules_to_save=["norm"]), model)


def test_biases_take_the_place_of_the_base_s(tmp_path: Path) -> None:
    model = llama(tmp_path / "base", attention_bias=True)
    path = "model.layers.0.self_attn.q_proj"
    bias = torch.randn(16)
    tensors = pair(path, 16, 16) | {f"base_model.model.{path}.base_layer.bias": bias}
    module = model.get_submodule(path)
    module.weight.data += product(tensors, path, 2.0)
    module.bias.data = bias

    check(adapter(tmp_path / "lora", tensors, bias="lora_only"), model)


def test_an_embedding_trained_whole_leaves_a_tied_head_as_it_was(tmp_path: Path) -> None:
    model = llama(tmp_path / "base", tie_word_embeddings=True)
    tensors = {"base_model.model.model.embed_tokens.weight": torch.randn(60, 16)}
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    model.model.embed_tokens.weight.data = tensors["base_model.model.model.embed_tokens.weight"]

    check(adapter(tmp_path / "lora", tensors, modules_to_save=["embed_tokens"]), model)


def test_an_embedding_that_was_only_saved_stays_tied(tmp_path: Path) -> None:
    model = llama(tmp_path / "base", tie_word_embeddings=True)
    weight = torch.randn(60, 16)
    model.model.embed_tokens.weight.data.copy_(weight)

    check(adapter(tmp_path / "lora", {"base_model.model.model.embed_tokens.weight": weight}), model)


def test_a_tokenizer_comes_from_the_adapter_where_it_brings_one(tmp_path: Path) -> None:
    llama(tmp_path / "base")
    folder = adapter(tmp_path / "lora", pair("model.layers.0.self_attn.q_proj", 16, 16))
    assert recipe(folder).tokenizer == tmp_path / "base"

    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")

    assert recipe(folder).tokenizer == folder
