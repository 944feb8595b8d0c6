"""A map written by hand is carried out as it stands or refused before anything is loaded."""

from __future__ import annotations

from typing import Any

import pytest

from backends.errors import DeviceMapInvalid
from backends.models.types import ModelInfo
from backends.placement.planner import plan
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from tests.support.machines import gpu, machine, rtx_4060

ONE = machine(gpu(0), ram=64)
LAYERS = "model.language_model.layers"


def decide(model: ModelInfo, device_map: dict[str, str], hardware: Any = ONE, **more: Any) -> Plan:
    overrides = Overrides(device_map=tuple(device_map.items()), **more)
    return plan(hardware, model, PlanRequest("m", Preset.CUSTOM, overrides))


def test_one_key_for_everything(llava: ModelInfo) -> None:
    found = decide(llava, {"": "cuda:0"})

    assert {device for _, device in found.device_map} == {"cuda:0"}
    assert found.verdict == "fits"


@pytest.mark.parametrize("device", ["0", "cuda", "cuda:0"])
def test_spellings_of_a_gpu(llava: ModelInfo, device: str) -> None:
    assert decide(llava, {"": device}).visible_gpus == (0,)


def test_the_longest_key_wins(llava: ModelInfo) -> None:
    found = dict(decide(llava, {"model": "cuda:0", "lm_head": "cpu", f"{LAYERS}.31": "cpu"}).device_map)

    assert found[f"{LAYERS}.30"] == "cuda:0"
    assert found[f"{LAYERS}.31"] == found["lm_head"] == "cpu"


def test_int8_beside_the_cpu_sets_the_flag_and_counts_full_width(llava: ModelInfo) -> None:
    device_map = {"model": "cuda:0", "lm_head": "cuda:0", f"{LAYERS}.31": "cpu"}

    found = decide(llava, device_map, precision="int8")

    assert found.int8_fp32_cpu_offload
    ram = next(share for share in found.devices if share.device == "cpu")
    assert ram.weights_bytes == 2 * 202_383_360
    assert found.cpu_layers_mode == "compute"


@pytest.mark.parametrize("precision", ["int8", "nf4"])
@pytest.mark.parametrize("module", [f"{LAYERS}.3", "lm_head", "model.vision_tower"])
def test_quantized_weights_on_a_cpu_are_never_read_from_the_disk(
    llava: ModelInfo, precision: str, module: str
) -> None:
    """bitsandbytes would refuse it while loading, with another sentence."""
    label = {"int8": "8-bit", "nf4": "4-bit"}[precision]
    with pytest.raises(DeviceMapInvalid, match=f"{module} is placed on the disk, and .* {label}") as caught:
        decide(llava, {"": "cpu", module: "disk"}, precision=precision)

    assert f"Place {module} on cpu" in str(caught.value)


def test_beside_a_gpu_quantized_weights_may_be_read_from_the_disk(llava: ModelInfo) -> None:
    found = decide(llava, {"": "cuda:0", f"{LAYERS}.31": "disk"}, precision="int8")

    assert (found.verdict, found.precision) == ("slow", "int8")


def test_presets_that_quantize_leave_a_map_without_gpu_layers_at_full_precision(llava: ModelInfo) -> None:
    on_disk = (("", "cpu"), (f"{LAYERS}.31", "disk"))
    for preset in (Preset.MID, Preset.LOW):
        found = plan(ONE, llava, PlanRequest("m", preset, Overrides(device_map=on_disk)))
        assert (found.verdict, found.precision) == ("slow", "fp32")


@pytest.mark.parametrize(
    ("preset", "overrides", "why"),
    [
        pytest.param("cpu", {}, "The preset CPU only uses no GPU.", id="the preset"),
        pytest.param("auto", {"gpus": (1,)}, "not among the GPUs to use that are set", id="the GPUs to use"),
    ],
)
def test_a_gpu_that_is_ruled_out_is_not_said_to_be_absent(
    llava: ModelInfo, preset: str, overrides: dict[str, Any], why: str
) -> None:
    asked = PlanRequest("m", Preset(preset), Overrides(device_map=(("", "cuda:0"),), **overrides))

    with pytest.raises(DeviceMapInvalid, match=f"cuda:0, which may not be used. .*{why}") as caught:
        plan(machine(gpu(0), gpu(1), ram=64), llava, asked)

    assert "does not exist" not in str(caught.value)


def test_modules_without_weights_follow_the_embeddings(starter: ModelInfo) -> None:
    device_map = {
        "model.vision_tower": "cuda:0",
        "model.multi_modal_projector": "cuda:0",
        "model.language_model.embed_tokens": "cuda:0",
        LAYERS: "cpu",
        "model.language_model.norm": "cpu",
    }

    found = dict(decide(starter, device_map).device_map)

    assert found["model.language_model.rotary_emb"] == found["lm_head"] == "cuda:0"


def test_a_map_that_does_not_fit_is_a_no_with_figures(llava: ModelInfo) -> None:
    found = decide(llava, {"": "cuda:0"}, machine(rtx_4060()), precision="fp16")

    assert found.verdict == "no"
    assert "cuda:0 (NVIDIA GeForce RTX 4060) would have to hold" in " ".join(map(str, found.reasons))


HALF = {index: "cuda:0" if index < 16 else "cpu" for index in range(32)}


@pytest.mark.parametrize(
    "device_map",
    [
        pytest.param(
            {
                "vision_tower": "cuda:0",
                "multi_modal_projector": "cuda:0",
                "language_model.model.embed_tokens": "cuda:0",
                **{f"language_model.model.layers.{index}": HALF[index] for index in HALF},
                "language_model.model.norm": "cpu",
                "language_model.lm_head": "cpu",
            },
            id="LLaVA before transformers 4.52",
        ),
        pytest.param(
            {
                "model.embed_tokens": "cuda:0",
                **{f"model.layers.{index}": HALF[index] for index in HALF},
                "model.norm": "cpu",
                "model.vision_tower": "cuda:0",
                "model.mm_projector": "cuda:0",
                "lm_head": "cpu",
            },
            id="the original LLaVA",
        ),
        pytest.param(
            {
                "": "cuda:0",
                **{f"transformer.encoder.layers.{index}": HALF[index] for index in HALF},
                "transformer.encoder.final_layernorm": "cpu",
                "transformer.output_layer": "cpu",
            },
            id="ChatGLM",
        ),
        pytest.param(
            {
                "": "cpu",
                "transformer.embedding.word_embeddings": "cuda:0",
                "transformer.rotary_pos_emb": "cuda:0",
                **{f"transformer.encoder.layers.{index}": HALF[index] for index in HALF},
                "transformer.encoder.final_layernorm": "cpu",
                "transformer.output_layer": "cpu",
                "vision_tower.vision_model": "cuda:0",
                "multi_modal_projector": "cuda:0",
            },
            id="ChatGLM, every part by its full name",
        ),
        pytest.param(
            {
                "model.vision_tower.vision_tower": "cuda:0",
                "model.mm_projector": "cuda:0",
                "transformer.wte": "cuda:0",
                "transformer.h": "cpu",
                **{f"transformer.h.{index}": "cuda:0" for index in range(16)},
                "transformer.ln_f": "cpu",
                "lm_head": "cpu",
            },
            id="all layers, and half of them elsewhere",
        ),
        pytest.param(
            {
                "transformer.wte": "cuda:0",
                "visual": "cuda:0",
                "multi_modal_projector": "cuda:0",
                **{f"transformer.h.{index}": HALF[index] for index in HALF},
                "transformer.ln_f": "cpu",
                "lm_head": "cpu",
            },
            id="Qwen-VL",
        ),
    ],
)
def test_names_of_other_families_are_translated(llava: ModelInfo, device_map: dict[str, str]) -> None:
    found = dict(decide(llava, device_map).device_map)

    assert [found[f"{LAYERS}.{index}"] for index in HALF] == list(HALF.values())
    assert found["model.language_model.embed_tokens"] == found["model.vision_tower"] == "cuda:0"
    assert found["model.multi_modal_projector"] == "cuda:0"
    assert found["model.language_model.norm"] == found["lm_head"] == "cpu"


def test_chatglm_goes_by_its_authors_names(chatglm: ModelInfo) -> None:
    asked = {
        "transformer.embedding": "cpu",
        "transformer.rotary_pos_emb": "cpu",
        "transformer.encoder.layers": "cuda:0",
        "transformer.encoder.final_layernorm": "cpu",
        "transformer.output_layer": "cpu",
    }

    found = dict(decide(chatglm, asked).device_map)

    assert {name for name, device in found.items() if device == "cuda:0"} == {
        f"model.layers.{index}" for index in range(28)
    }


def test_one_module_by_its_old_and_its_new_name_is_placed_twice(llava: ModelInfo) -> None:
    with pytest.raises(DeviceMapInvalid, match="placed twice"):
        decide(llava, {"": "cpu", "model.layers.3": "cuda:0", f"{LAYERS}.3": "cpu"})


@pytest.mark.parametrize(
    ("device_map", "sentence"),
    [
        pytest.param({"": "cuda:3"}, "cuda:3, which does not exist", id="no such GPU"),
        pytest.param({"": "auto"}, "auto is not a device but a strategy", id="auto"),
        pytest.param(
            {"": "cpu", "load_in_8bit_fp32_cpu_offload": "cpu"},
            "the real name is llm_int8_enable_fp32_cpu_offload, and Snug sets it",
            id="a setting of an article that does not exist",
        ),
        pytest.param({'model.to("auto")': "cuda:0"}, "auto is not a device", id="model.to(auto)"),
        pytest.param(
            {'dispatch_model(model, device_map="auto")': "cpu"},
            "takes a finished map",
            id="dispatch_model(auto)",
        ),
        pytest.param({"": "gpu"}, "does not exist", id="no device at all"),
        pytest.param({"": "disk"}, "something must compute", id="everything on the disk"),
        pytest.param(
            {"model.language_model": "cpu"}, "The map forgets model.vision_tower", id="modules missing"
        ),
        pytest.param({}, "forgets", id="an empty map"),
        pytest.param(
            {"": "cpu", f"{LAYERS}.3.mlp": "cuda:0"},
            r"lies inside .*layers\.3, which must stay",
            id="a split layer",
        ),
        pytest.param(
            {"": "cpu", "model.language_model.layer.3": "cuda:0"},
            r"nearest names are .*layers\.3",
            id="misspelt",
        ),
        pytest.param(
            {"": "cpu", "transformer.h.40": "cuda:0"},
            r"has no module transformer\.h\.40",
            id="another family's layer",
        ),
        pytest.param(
            {"": "cpu", f"{LAYERS}.32": "cuda:0"}, r"has no module .*layers\.32", id="a layer too many"
        ),
        pytest.param(
            {"lm_head": "cpu", "lm_head.": "cuda:0", "": "cpu"}, "placed twice", id="the same module twice"
        ),
    ],
)
def test_maps_that_would_fail(llava: ModelInfo, device_map: dict[str, str], sentence: str) -> None:
    with pytest.raises(DeviceMapInvalid, match=sentence):
        decide(llava, device_map)


@pytest.mark.parametrize(
    "device_map", [{"": "cpu", "\x1b[31m" + "x" * 5000: "cpu"}, {"": "\x1b]0;y" * 900}], ids=["key", "device"]
)
def test_what_a_map_says_is_repeated_short_and_without_steering_the_terminal(
    llava: ModelInfo, device_map: dict[str, str]
) -> None:
    with pytest.raises(DeviceMapInvalid) as caught:
        decide(llava, device_map)

    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
