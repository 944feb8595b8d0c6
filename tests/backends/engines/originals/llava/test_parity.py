"""Original LLaVA checkpoints give what the authors' code computes for them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest
import torch
from transformers import BitsAndBytesConfig

from backends.engines.cache import PrefixStore
from backends.engines.kv import empty_cache
from backends.engines.options import all_but
from backends.engines.originals.llava.model import model_class
from backends.engines.originals.llava.voice import voice
from backends.engines.originals.voice import Voice
from backends.engines.paths import ChunkedPath
from backends.engines.pictures import FeatureStore
from backends.engines.prompt import Prompt
from backends.engines.runner import ChunkRunner
from tests.support.original_llava import NAMES, Case, cases, folders, recipe_of, values

CPU = torch.device("cpu")
IMAGE = -200

each_case = pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.fixture}-{case.name}")
each_seeing_case = pytest.mark.parametrize(
    "case",
    [case for case in cases() if case.expected.get("pixel_values")],
    ids=lambda case: f"{case.fixture}-{case.name}",
)
each_twin = pytest.mark.parametrize(
    "folder",
    [folder for name in NAMES for folder in folders(name)[1:]],
    ids=lambda folder: folder.name,
)


@cache
def loaded(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Voice]:
    recipe = recipe_of(folder)
    kind = model_class(recipe.config)
    state = values(recipe, dtype)
    model, info = kind.from_pretrained(
        None,
        config=kind.config_class(**recipe.config),
        state_dict=state,
        dtype=dtype,
        output_loading_info=True,
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval(), voice(recipe, model)


def original_ids(prompt: Prompt) -> list[int]:
    """The prompt as the original counts it: one -200 a picture."""
    ids = list(prompt.ids)
    for span in reversed(prompt.spans):
        ids[span.start : span.end] = [IMAGE]
    return ids


def embedded(model: Any, prompt: Prompt) -> torch.Tensor:
    embeds: torch.Tensor = model.get_input_embeddings()(torch.tensor([prompt.ids])).clone()
    store = FeatureStore(model, embeds.dtype, CPU)
    for span in prompt.spans:
        embeds[0, span.start : span.end] = store.features(span.picture)
    return embeds


def greedy(path: ChunkedPath, messages: Any, count: int = 16) -> list[int]:
    path.open("one", messages, count)
    try:
        said = [int(path.first(Flag()).argmax())]
        while len(said) < count:
            said.append(int(path.step(said[-1]).argmax()))
    finally:
        path.shut()
    return said


def chunked(model: Any, spoken: Voice, text_chunk: int = 24) -> ChunkedPath:
    runner = ChunkRunner(model, FeatureStore(model, model.dtype, CPU), CPU)
    return ChunkedPath(spoken.prompts, runner, PrefixStore(model.config, 4096), 4096, text_chunk)  # type: ignore[arg-type]


@each_case
def test_a_prompt_has_the_ids_of_the_original(case: Case) -> None:
    _, spoken = loaded(folders(case.fixture)[0])
    prompt = spoken.prompts.build(case.messages())
    assert original_ids(prompt) == case.expected["input_ids"]
    assert len(prompt) == case.expected["sequence_length"] == len(case.expected["position_ids"])


@each_seeing_case
def test_pixels_are_those_of_the_original(case: Case) -> None:
    _, spoken = loaded(folders(case.fixture)[0])
    spans = spoken.prompts.build(case.messages()).spans
    names = [name for name in case.arrays() if name.startswith("pixel_values")]
    stored = [case.array(name) for name in sorted(names)]
    flat = [one for array in stored for one in (array if len(names) == 1 and len(spans) > 1 else [array])]
    assert len(flat) == len(spans)
    for span, expected in zip(spans, flat, strict=True):
        pixels = span.picture.inputs["pixel_values"].reshape(-1, *expected.shape[-3:])
        assert (pixels - expected.reshape(pixels.shape)).abs().max() <= 1e-6


@each_seeing_case
@torch.inference_mode()
def test_pictures_and_words_are_merged_as_by_the_original(case: Case) -> None:
    model, spoken = loaded(folders(case.fixture)[0])
    embeds = embedded(model, spoken.prompts.build(case.messages()))[0]
    assert (embeds - case.array("inputs_embeds").reshape(embeds.shape)).abs().max() <= 2e-5


@each_case
@torch.inference_mode()
def test_logits_are_those_of_the_original(case: Case) -> None:
    model, spoken = loaded(folders(case.fixture)[0])
    logits = model(inputs_embeds=embedded(model, spoken.prompts.build(case.messages()))).logits[0, -8:]
    assert (logits - case.array("logits_last8")).abs().max() <= 2e-4


@each_seeing_case
@torch.inference_mode()
def test_every_patch_is_projected_as_by_the_original(case: Case) -> None:
    model, spoken = loaded(folders(case.fixture)[0])
    expected = case.array("projected_patches")
    found = []
    for span in spoken.prompts.build(case.messages()).spans:
        pixels = span.picture.inputs["pixel_values"]
        crops = pixels.reshape(-1, *pixels.shape[-3:])
        hidden = model.model.vision_tower(crops, output_hidden_states=True).hidden_states
        found.append(model.model.multi_modal_projector(hidden[model.config.vision_feature_layer][:, 1:]))
    patches = torch.cat(found)
    assert (patches - expected.reshape(patches.shape)).abs().max() <= 2e-5


@each_case
def test_the_answer_has_the_words_of_the_original(case: Case) -> None:
    model, spoken = loaded(folders(case.fixture)[0])
    said = greedy(chunked(model, spoken), case.messages())
    assert said == case.expected["greedy_ids"]
    text = spoken.tokenizer.decode(said, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert text.strip() == case.expected["greedy_text"].strip()


@each_case
@torch.inference_mode()
def test_decoding_with_the_cache_equals_computing_anew(case: Case) -> None:
    model, spoken = loaded(folders(case.fixture)[0])
    prompt = spoken.prompts.build(case.messages())
    embeds, kv = embedded(model, prompt), empty_cache(model.config)
    model(inputs_embeds=embeds, past_key_values=kv, use_cache=True)
    for token in case.expected["greedy_ids"][:4]:
        new = torch.tensor([[token]])
        step = model(input_ids=new, past_key_values=kv, use_cache=True).logits[0, -1]
        embeds = torch.cat([embeds, model.get_input_embeddings()(new)], dim=1)
        anew = model(inputs_embeds=embeds).logits[0, -1]
        assert (step - anew).abs().max() <= 2e-5


@each_twin
def test_the_other_weight_format_gives_the_same_weights(folder: Path) -> None:
    fixture = folder.parents[1].name
    one, other = values(recipe_of(folders(fixture)[0])), values(recipe_of(folder))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@each_case
@torch.inference_mode()
def test_half_precision_stays_near(case: Case) -> None:
    """The original's own distance between float32 and bfloat16 is not published: its scale is the logits'."""
    model, spoken = loaded(folders(case.fixture)[0], torch.bfloat16)
    logits = (
        model(inputs_embeds=embedded(model, spoken.prompts.build(case.messages()))).logits[0, -8:].float()
    )
    expected = case.array("logits_last8")
    assert (logits - expected).abs().max() <= 0.08 * expected.abs().max()


def test_a_second_turn_reuses_the_first() -> None:
    case = next(case for case in cases() if case.name == "two_images" and case.fixture == "llava-v1.6-vicuna")
    model, spoken = loaded(folders(case.fixture)[0])
    path = chunked(model, spoken)
    messages = case.messages()
    greedy(path, messages[:1], 2)
    opened = path.open("one", messages, 16)
    path.shut()
    assert 0 < opened.reused < len(opened.ids)
    assert greedy(path, messages) == case.expected["greedy_ids"]


def test_a_lora_merged_in_half_precision_is_the_released_path() -> None:
    case = next(case for case in cases() if case.fixture == "llava-v1.5-lora")
    recipe = recipe_of(folders(case.fixture)[0])
    merged = {name: value.half().float() for name, value in values(recipe).items()}
    kind = model_class(recipe.config)
    model = (
        kind.from_pretrained(None, config=kind.config_class(**recipe.config), state_dict=merged)
        .float()
        .eval()
    )
    prompt = voice(recipe, model).prompts.build(case.messages())
    with torch.inference_mode():
        logits = model(inputs_embeds=embedded(model, prompt)).logits[0, -8:]
    assert (logits - case.array("logits_last8_fp16merge")).abs().max() <= 0.03


def native_inputs(prompt: Prompt) -> dict[str, Any]:
    """What transformers' own class takes: placeholders among the ids, all pictures beside them."""
    made = [span.picture.inputs for span in prompt.spans]
    return {"input_ids": torch.tensor([prompt.ids])} | {key: made[0][key] for key in made[0]}


@pytest.mark.parametrize(
    "case",
    [case for case in cases() if len(case.expected.get("pixel_values", ())) == 1],
    ids=lambda case: case.fixture,
)
@torch.inference_mode()
def test_transformers_own_generation_says_the_same(case: Case) -> None:
    model, spoken = loaded(folders(case.fixture)[0])
    inputs = native_inputs(spoken.prompts.build(case.messages()))
    said = model.generate(
        **inputs, attention_mask=torch.ones_like(inputs["input_ids"]), max_new_tokens=16, do_sample=False
    )
    assert said[0, inputs["input_ids"].shape[1] :].tolist() == case.expected["greedy_ids"]


@pytest.mark.filterwarnings("ignore:MatMul8bitLt")
@pytest.mark.parametrize(
    ("fixture", "options"),
    [
        pytest.param("llava-v1.5-full", {"load_in_8bit": True}, id="8 bits"),
        pytest.param("llava-v1.6-mistral", {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, id="4 bits"),
    ],
)
@torch.inference_mode()
def test_fewer_bits_run_on_the_cpu(fixture: str, options: dict[str, Any]) -> None:
    case = next(case for case in cases() if case.fixture == fixture)
    recipe = recipe_of(folders(fixture)[0])
    kind = model_class(recipe.config)
    model = kind.from_pretrained(
        None,
        config=kind.config_class(**recipe.config),
        state_dict=values(recipe),
        dtype=torch.float32,
        device_map={"": "cpu"},
        quantization_config=BitsAndBytesConfig(
            **options, llm_int8_skip_modules=all_but(["model.language_model.layers"])
        ),
    )
    assert model.model.language_model.layers[0].self_attn.q_proj.weight.dtype in (torch.int8, torch.uint8)
    prompt = voice(recipe, model).prompts.build(case.messages())
    logits = model(inputs_embeds=embedded(model, prompt)).logits[0, -8:]
    expected = case.array("logits_last8")
    assert (logits - expected).abs().mean() < 0.5 * expected.abs().mean()
