"""Everything a person can set is carried out exactly or refused with a reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backends.errors import SettingInvalid
from backends.models.types import ModelInfo
from backends.placement.planner import plan
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from tests.support.machines import GIB, gpu, machine, rtx_2080_ti, rtx_4060

NO_GPU = machine(ram=64)
ONE = machine(gpu(0), ram=64)
TWO = machine(rtx_2080_ti(0), rtx_2080_ti(1), ram=64)


def decide(model: ModelInfo, hardware: Any, preset: str = "custom", **overrides: Any) -> Plan:
    return plan(hardware, model, PlanRequest("m", Preset(preset), Overrides(**overrides)))


def test_a_chosen_gpu_is_used_even_if_another_has_more(llava: ModelInfo) -> None:
    assert decide(llava, machine(gpu(0), gpu(5, free=20)), gpus=(5,)).visible_gpus == (5,)


@pytest.mark.parametrize("layers", [1, 7, 31])
def test_gpu_layers_are_exactly_those_asked_for(llava: ModelInfo, layers: int) -> None:
    found = decide(llava, ONE, gpu_layers=layers)

    assert found.gpu_layers == layers
    assert dict(found.device_map)[f"model.language_model.layers.{layers}"] == "cpu"


def test_all_gpu_layers_is_the_whole_model(llava: ModelInfo) -> None:
    found = decide(llava, ONE, gpu_layers=32)

    assert {device for _, device in found.device_map} == {"cuda:0"}


def test_no_gpu_layers_is_the_cpu(llava: ModelInfo) -> None:
    assert decide(llava, ONE, gpu_layers=0).visible_gpus == ()


def test_gpu_layers_spread_over_chosen_gpus(llava: ModelInfo) -> None:
    found = decide(llava, TWO, gpus=(0, 1), gpu_layers=30, precision="fp16")

    assert found.gpu_layers == 30
    assert found.verdict != "no"


def test_too_many_gpu_layers_is_a_no_with_the_figures(llava: ModelInfo) -> None:
    found = decide(llava, machine(rtx_4060(), ram=64), gpu_layers=30, precision="fp16")

    assert (found.verdict, found.gpu_layers) == ("no", 30)
    assert "too little" in " ".join(map(str, found.reasons))


@pytest.mark.parametrize("preset", ["auto", "high", "mid", "low", "custom"])
@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32", "int8", "nf4"])
def test_a_precision_goes_with_every_preset(starter: ModelInfo, preset: str, precision: str) -> None:
    found = decide(starter, ONE, preset, precision=precision)

    assert (found.precision, found.verdict) == (precision, "fits")


@pytest.mark.parametrize("precision", ["int8", "nf4", "fp16", "bf16", "fp32"])
def test_a_precision_by_hand_holds_on_the_cpu(llava: ModelInfo, precision: str) -> None:
    found = decide(llava, NO_GPU, "cpu", precision=precision)

    assert found.precision == precision
    assert not found.int8_fp32_cpu_offload


def test_bitsandbytes_on_a_cpu_is_never_proposed_and_slow_when_asked_for(llava: ModelInfo) -> None:
    proposed = decide(llava, NO_GPU, "auto")
    asked = decide(llava, NO_GPU, "auto", precision="nf4")

    assert not {other.precision for other in proposed.alternatives} & {"int8", "nf4"}
    assert asked.verdict == "slow"
    assert any(reason.code == "reason.cpu_quantized" for reason in asked.reasons)


def test_context_and_pictures(llava: ModelInfo) -> None:
    short, long = decide(llava, ONE, context_tokens=1000), decide(llava, ONE, context_tokens=4096)

    assert (short.context_tokens, long.context_tokens) == (1000, 4096)
    assert long.devices[0].kv_cache_bytes > 4 * short.devices[0].kv_cache_bytes
    assert decide(llava, ONE, images=3).images == 3
    assert decide(llava, ONE, images=0).image_tokens == 0


def test_pictures_of_dynamic_families_shrink_into_a_short_context(models: dict[str, ModelInfo]) -> None:
    found = decide(models["qwen2.5-vl-7b"], ONE, context_tokens=1024, images=2)

    assert 2 * found.image_tokens < 1024


def test_the_detail_of_pictures(models: dict[str, ModelInfo]) -> None:
    usual, coarse = (decide(models["qwen2.5-vl-7b"], ONE, image_tokens=tokens) for tokens in (None, 320))

    assert (coarse.image_tokens, coarse.context_tokens) == (320, 2048)
    assert coarse.image_tokens < usual.image_tokens
    assert coarse.devices[0].activation_bytes < usual.devices[0].activation_bytes
    assert "Set by hand: Image detail (tokens)." in [str(reason) for reason in coarse.reasons]


@pytest.mark.parametrize("tokens", [0, 65, 20_000])
def test_a_detail_that_no_picture_can_have(models: dict[str, ModelInfo], tokens: int) -> None:
    with pytest.raises(SettingInvalid, match=r"must stay recognisable.*a number from 66 to "):
        decide(models["qwen2.5-vl-7b"], ONE, image_tokens=tokens)


def test_a_limit_moves_layers_elsewhere(llava: ModelInfo) -> None:
    free = decide(llava, ONE, "low")
    limited = decide(llava, ONE, "low", max_memory=(("cuda:0", 4 * GIB),))

    assert limited.devices[0].total_bytes <= 4 * GIB
    assert limited.gpu_layers < free.gpu_layers


def test_a_limit_never_raises_a_budget(llava: ModelInfo) -> None:
    found = decide(llava, machine(rtx_4060()), "high", max_memory=(("cuda:0", 100 * GIB),))

    assert found.verdict == "no"


@pytest.mark.parametrize("mode", ["compute", "stream"])
def test_the_mode_of_layers_in_ram(llava: ModelInfo, mode: Any) -> None:
    found = decide(llava, machine(rtx_4060(), ram=64), "mid", cpu_layers_mode=mode)

    assert found.cpu_layers_mode == mode
    if mode == "stream":
        assert found.devices[0].staging_bytes >= 404_000_000
        assert found.devices[1].kv_cache_bytes == 0


def test_the_offload_folder(llava: ModelInfo) -> None:
    small = machine(ram=8, available=5)

    assert decide(llava, small, offload_dir="/mnt/fast disk").offload_dir == "/mnt/fast disk"


def test_settings_are_listed_in_the_reasons(llava: ModelInfo) -> None:
    found = decide(llava, ONE, gpus=(0,), precision="int8", context_tokens=1024)

    assert "Set by hand: GPUs to use, Precision, Context (tokens)." in [
        str(reason) for reason in found.reasons
    ]


@pytest.mark.parametrize(
    ("hardware", "preset", "overrides", "sentence"),
    [
        pytest.param(
            TWO, "auto", {"gpus": (2,)}, r"no GPU 2 here.*numbers among 0, 1", id="a GPU that is not there"
        ),
        pytest.param(NO_GPU, "auto", {"gpus": (0,)}, "no usable GPU", id="GPUs on a machine without"),
        pytest.param(TWO, "auto", {"gpus": (0, 0)}, "named twice", id="a GPU twice"),
        pytest.param(TWO, "cpu", {"gpus": (0,)}, "preset CPU only uses no GPU", id="GPUs with CPU only"),
        pytest.param(ONE, "auto", {"gpu_layers": 33}, "has 32 layers", id="more layers than there are"),
        pytest.param(ONE, "auto", {"gpu_layers": -1}, "0 to 32", id="negative layers"),
        pytest.param(NO_GPU, "auto", {"gpu_layers": 1}, "no usable GPU", id="GPU layers without a GPU"),
        pytest.param(ONE, "cpu", {"gpu_layers": 1}, "preset CPU only", id="GPU layers with CPU only"),
        pytest.param(
            ONE,
            "auto",
            {"gpu_layers": 3, "device_map": (("", "cpu"),)},
            "already places every layer",
            id="layers and a map",
        ),
        pytest.param(ONE, "auto", {"precision": "fp8"}, "no such precision", id="unknown precision"),
        pytest.param(ONE, "auto", {"precision": "q4_k_m"}, "GGUF", id="a GGUF precision"),
        pytest.param(
            ONE, "auto", {"precision": "q8_0"}, "be converted for llama.cpp", id="a precision of llama.cpp's"
        ),
        pytest.param(ONE, "auto", {"context_tokens": 0}, "at least one token", id="no context"),
        pytest.param(ONE, "auto", {"context_tokens": 5000}, "at most 4096", id="beyond the model"),
        pytest.param(
            ONE, "auto", {"image_tokens": 300}, "same number of tokens", id="detail of a fixed family"
        ),
        pytest.param(
            ONE, "auto", {"context_tokens": 500}, "Pictures of 576 tokens", id="too short for a picture"
        ),
        pytest.param(
            ONE, "auto", {"context_tokens": 600}, "leave 24 of 600 tokens", id="no room for a question"
        ),
        pytest.param(ONE, "auto", {"images": 7}, "leave 64 of 4,096", id="no room for an answer"),
        pytest.param(ONE, "auto", {"images": 9}, "fewer pictures", id="more pictures than the context holds"),
        pytest.param(ONE, "auto", {"images": -1}, "negative", id="negative pictures"),
        pytest.param(ONE, "auto", {"engine": "llamacpp"}, "transformers", id="an engine of later"),
        pytest.param(ONE, "auto", {"cpu_layers_mode": "fly"}, "no such mode", id="unknown mode"),
        pytest.param(ONE, "auto", {"offload_dir": "  "}, "names no folder", id="empty folder"),
        pytest.param(ONE, "auto", {"max_memory": (("cuda:1", 1),)}, "no such device", id="limit elsewhere"),
        pytest.param(ONE, "auto", {"max_memory": (("cpu", -1),)}, "negative", id="negative limit"),
    ],
)
def test_impossible_settings(
    llava: ModelInfo, hardware: Any, preset: str, overrides: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SettingInvalid, match=sentence):
        decide(llava, hardware, preset, **overrides)


def test_pictures_for_a_text_model(models: dict[str, ModelInfo]) -> None:
    with pytest.raises(SettingInvalid, match="text only"):
        decide(models["text-6b"], ONE, images=1)


@pytest.mark.parametrize("overrides", [{"context_tokens": 832}, {"images": 6}], ids=str)
def test_room_for_a_question_and_a_short_answer_is_enough(
    llava: ModelInfo, overrides: dict[str, Any]
) -> None:
    found = decide(llava, ONE, **overrides)

    assert found.context_tokens - found.images * found.image_tokens >= 256


def test_a_model_that_is_short_itself_is_not_asked_for_more_than_it_has(llava: ModelInfo) -> None:
    short = replace(llava, text=replace(llava.text, max_context=700))

    assert decide(short, ONE, images=1).context_tokens == 700
    with pytest.raises(SettingInvalid, match="a short answer needs 124"):
        decide(short, ONE, context_tokens=690)
