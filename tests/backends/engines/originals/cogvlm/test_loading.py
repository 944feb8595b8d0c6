"""CogVLM in every precision and placement that native models have: the same numbers, or as near."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, BitsAndBytesConfig

from backends.engines.originals.cogvlm.configuration import CogVLMConfig
from backends.engines.originals.cogvlm.modeling import CogVLMForCausalLM
from tests.support import cogvlm_reference
from tests.support.original_cogvlm import NAMES, Case, cases, load, loaded, named, recipe_of, weights

CASES = cases()
CHATS = [case for case in CASES if case.name == "chat"]
# What the planner has bitsandbytes quantize: the decoder's layers.
KEPT = ["model.vision", "lm_head"]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def off(model: CogVLMForCausalLM, case: Case) -> torch.Tensor:
    """How far its last logits are from the original's."""
    with torch.inference_mode():
        logits = model(**case.inputs(), logits_to_keep=8).logits[0].float()
    return (logits - case.tensor("logits_last8")).abs()


@pytest.mark.parametrize("fixture", NAMES)
def test_the_class_has_the_files_names_and_shapes(fixture: str) -> None:
    recipe = recipe_of(fixture)
    model = CogVLMForCausalLM(CogVLMConfig(**recipe.config))
    stored = {name: value.shape for name, value in weights(recipe).items()}
    assert {name: value.shape for name, value in model.state_dict().items()} == stored


@pytest.mark.parametrize("fixture", NAMES)
def test_frequencies_are_the_stored_ones(fixture: str) -> None:
    expected = json.loads(
        (Path(__file__).parents[4] / "fixtures" / fixture / "expected.json").read_text(encoding="utf-8")
    )
    for layer in loaded(fixture).model.layers:
        assert layer.self_attn.rotary_emb.inv_freq.tolist() == expected["stored_inv_freq"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("fixture", NAMES)
def test_frequencies_stay_exact_in_every_dtype(fixture: str, dtype: torch.dtype) -> None:
    exact = loaded(fixture).model.layers[0].self_attn.rotary_emb.inv_freq
    model = load(recipe_of(fixture), dtype)
    assert torch.equal(model.model.layers[0].self_attn.rotary_emb.inv_freq, exact)
    assert model.lm_head.weight.dtype == dtype


@pytest.mark.parametrize("fixture", NAMES)
def test_a_checkpoint_without_frequencies_gets_exact_ones(fixture: str) -> None:
    recipe = recipe_of(fixture)
    state = {name: value for name, value in weights(recipe).items() if "inv_freq" not in name}
    model, info = CogVLMForCausalLM.from_pretrained(
        None,
        config=CogVLMConfig(**recipe.config),
        state_dict=state,
        output_loading_info=True,
        dtype=torch.float32,
    )
    assert not info["missing_keys"]
    expected = json.loads(
        (Path(__file__).parents[4] / "fixtures" / fixture / "expected.json").read_text(encoding="utf-8")
    )
    found = model.model.layers[1].self_attn.rotary_emb.inv_freq
    assert torch.allclose(found, torch.tensor(expected["exact_inv_freq"]), rtol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_the_plain_reference_agrees_in_fp32(case: Case) -> None:
    assert (reference(case, case.model) - case.tensor("logits_last8")).abs().max() <= 2e-4


@pytest.mark.parametrize("case", CASES, ids=named)
def test_bf16_is_as_near_as_the_plain_reference_in_bf16(case: Case) -> None:
    """Both are compared with the original's fp32; on the mean, since single logits are matters of luck."""
    model = load(recipe_of(case.fixture), torch.bfloat16)
    spread = (reference(case, model) - case.tensor("logits_last8")).abs()
    ours = off(model, case)
    assert ours.mean() <= 1.25 * spread.mean()
    assert ours.max() <= 2 * spread.max()


def reference(case: Case, model: CogVLMForCausalLM) -> torch.Tensor:
    """The last logits of the plain reference in the dtype of `model`, whose tower it looks through."""
    recipe, inputs = recipe_of(case.fixture), case.inputs()
    dtype, features = model.lm_head.weight.dtype, None
    stored = {name: value.to(dtype) for name, value in weights(recipe).items()}
    with torch.inference_mode():
        if "pixel_values" in inputs:
            features = model.get_image_features(inputs["pixel_values"].to(dtype)).pooler_output[0]
        found = cogvlm_reference.logits(
            stored,
            recipe.config,
            inputs["input_ids"][0],
            features=features,
            types=inputs["token_type_ids"][0],
            places=torch.tensor(case.expected["position_ids"]),
        )
    return found[-8:].float()


@pytest.mark.parametrize("case", CHATS, ids=named)
@pytest.mark.parametrize(
    "quantized",
    [
        BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=KEPT),
        BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
            llm_int8_skip_modules=KEPT,
        ),
    ],
    ids=["8 bits", "4 bits"],
)
def test_quantized_on_the_cpu_it_answers(case: Case, quantized: BitsAndBytesConfig) -> None:
    model = load(recipe_of(case.fixture), device_map="cpu", quantization_config=quantized)
    layer = model.model.layers[0]
    for part in (layer.self_attn.vision_expert_dense, layer.mlp.language_mlp.down_proj):
        assert part.weight.dtype in (torch.int8, torch.uint8)
    assert off(model, case).mean() < 1.5
    inputs = case.inputs()
    whole = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert whole.shape[1] == inputs["input_ids"].shape[1] + 3


RAM = {"model.embed_tokens": "cpu", "model.norm": "cpu", "lm_head": "cpu", "model.vision": "cpu"}
PLACES = {
    "one layer on the disk": {**RAM, "model.layers.0": "disk", "model.layers.1": "cpu"},
    "the decoder on the disk": {**RAM, "model.layers.0": "disk", "model.layers.1": "disk"},
    "the tower too": {**RAM, "model.layers.0": "cpu", "model.layers.1": "disk", "model.vision": "disk"},
}


@pytest.mark.parametrize("case", CASES, ids=named)
@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_split_over_ram_and_disk_it_computes_the_same(
    case: Case, places: dict[str, str], tmp_path: Path
) -> None:
    model = load(recipe_of(case.fixture), device_map=places, offload_folder=str(tmp_path))
    with torch.inference_mode():
        whole = case.model(**case.inputs(), logits_to_keep=8).logits
        split = model(**case.inputs(), logits_to_keep=8).logits
    assert torch.equal(whole, split)


def test_blocks_are_never_split() -> None:
    model = loaded("cogvlm-chat")
    kinds = {type(module).__name__ for module in model.modules()}
    assert set(model._no_split_modules) <= kinds
    assert type(model.model.layers[0]).__name__ in model._no_split_modules
    assert type(model.model.vision.transformer.layers[0]).__name__ in model._no_split_modules


@pytest.mark.parametrize("fixture", NAMES)
def test_the_config_survives_being_written_down(fixture: str) -> None:
    config = CogVLMConfig(**recipe_of(fixture).config)
    again = CogVLMConfig.from_dict(json.loads(config.to_json_string(use_diff=False)))
    assert again.to_dict() == config.to_dict()
    assert again.vision_config.num_positions == 17


def test_transformers_itself_does_not_know_the_family() -> None:
    """Else its class might be the better one."""
    with pytest.raises(ValueError, match="cogvlm"):
        AutoConfig.for_model("cogvlm")


def test_pictures_and_their_tokens_must_match() -> None:
    case = CHATS[0]
    inputs = case.inputs()
    inputs["token_type_ids"][0, 3] = 0
    with pytest.raises(ValueError, match="17 tokens stand for pictures of 18"):
        case.model(**inputs)
