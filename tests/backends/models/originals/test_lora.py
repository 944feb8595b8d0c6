"""A PEFT LoRA over a native model is merged exactly, and nothing of it is left out in silence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file

from backends.errors import ModelDamaged, ModelUnsupported
from backends.models.originals.lora import native_lora_recipe
from backends.models.originals.types import Companions, Recipe
from tests.support.recipes import load, nowhere

Tensors = dict[str, torch.Tensor]
TEXT: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
IDS = torch.tensor([[1, 5, 9, 33, 2, 7]])


def llama(folder: Path, **options: Any) -> Any:
    torch.manual_seed(1)
    config = transformers.LlamaConfig(**TEXT | options)
    return kept(transformers.LlamaForCausalLM(config), folder)


def llava(folder: Path) -> Any:
    torch.manual_seed(2)
    vision = transformers.CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    text = transformers.LlamaConfig(**TEXT)
    config = transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_index=59)
    return kept(transformers.LlavaForConditionalGeneration(config), folder)


def gpt2(folder: Path) -> Any:
    torch.manual_seed(3)
    config = transformers.GPT2Config(vocab_size=60, n_embd=16, n_layer=2, n_head=2, n_positions=64)
    return kept(transformers.GPT2LMHeadModel(config), folder)


def mixtral(folder: Path) -> Any:
    torch.manual_seed(4)
    config = transformers.MixtralConfig(**TEXT, num_local_experts=3, num_experts_per_tok=2)
    return kept(transformers.MixtralForCausalLM(config), folder)


def kept(model: Any, folder: Path) -> Any:
    """The model, saved to `folder`, with weights that are not tiny."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(folder)
    return model.eval()


def pair(path: str, outputs: int, inputs: int, rank: int = 3) -> Tensors:
    torch.manual_seed(len(path) + outputs)
    return {
        f"base_model.model.{path}.lora_A.weight": torch.randn(rank, inputs) * 0.3,
        f"base_model.model.{path}.lora_B.weight": torch.randn(outputs, rank) * 0.3,
    }


def product(tensors: Tensors, path: str, scale: float) -> torch.Tensor:
    a, b = (tensors[f"base_model.model.{path}.lora_{side}.weight"] for side in "AB")
    return scale * (b @ a)


def adapter(folder: Path, tensors: Tensors, ending: str = "safetensors", **config: Any) -> Path:
    """An adapter of rank 3 and alpha 6 beside the folder `base`."""
    folder.mkdir()
    said = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "base_model_name_or_path": "somebody/base"} | config
    (folder / "adapter_config.json").write_text(json.dumps(said), encoding="utf-8")
    if ending == "bin":
        torch.save(tensors, folder / "adapter_model.bin")
    else:
        save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def recipe(folder: Path) -> Recipe:
    return native_lora_recipe(folder, Companions(), nowhere)


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


def test_a_tokenizer_comes_from_the_adapter_where_it_brings_one(tmp_path: Path) -> None:
    llama(tmp_path / "base")
    folder = adapter(tmp_path / "lora", pair(Q, 16, 16))
    assert recipe(folder).tokenizer == tmp_path / "base"

    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")

    assert recipe(folder).tokenizer == folder
