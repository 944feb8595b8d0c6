"""What a plan says is true of this plan: which parts are where, what a setting did, what a LoRA takes."""

from __future__ import annotations

from typing import Any

import pytest

from backends.models.identify import identify
from backends.models.types import ModelInfo
from backends.placement.planner import plan
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from backends.text import reads_alike
from tests.support import checkpoints
from tests.support.machines import GIB, gpu, machine, rtx_2080_ti

ONE = machine(gpu(0), ram=64)


def decide(model: ModelInfo, hardware: Any = ONE, preset: str = "custom", **overrides: Any) -> Plan:
    return plan(hardware, model, PlanRequest("m", Preset(preset), Overrides(**overrides)))


def said(found: Plan) -> str:
    return " | ".join(map(str, found.reasons))


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    folder = tmp_path_factory.mktemp("adapted")
    checkpoints.llava_15_7b(folder / "llava-1.5-7b-hf")
    return identify(checkpoints.lora(folder / "my LoRA", "llava-hf/llava-1.5-7b-hf"))


def test_a_model_whose_eyes_and_head_are_elsewhere_is_not_wholly_on_the_card(llava: ModelInfo) -> None:
    placed = (("", "cuda:0"), ("model.vision_tower", "cpu"), ("lm_head", "cpu"))

    found = said(decide(llava, device_map=placed))

    assert "The whole model" not in found
    assert "All layers are on cuda:0 (NVIDIA GeForce RTX 3090): " in found
    assert "What is in RAM: vision part, head." in found


def test_the_whole_model_is_on_one_card_only_when_every_part_with_weights_is(
    models: dict[str, ModelInfo],
) -> None:
    partly = 0
    for name, preset in (("llava-1.5-7b", "low"), ("qwen2.5-vl-7b", "low"), ("text-6b", "mid")):
        for tenths in range(40, 100, 2):
            found = decide(models[name], machine(gpu(0, total=tenths / 10), ram=32), preset)
            weightless = {module.name for module in models[name].modules if not module.parameters}
            places = {device for module, device in found.device_map if module not in weightless}
            codes = {reason.code for reason in found.reasons}
            assert ("reason.one_gpu" in codes) <= (len(places) == 1), (name, tenths)
            assert ("reason.layers_on_gpu" in codes) == ("reason.parts_elsewhere" in codes), (name, tenths)
            partly += "reason.parts_elsewhere" in codes
    assert partly > 0


def test_layers_over_two_cards_with_the_head_in_ram(llava: ModelInfo) -> None:
    layers = "model.language_model.layers"
    half = tuple((f"{layers}.{index}", "cuda:1") for index in range(16, 32))

    found = said(decide(llava, machine(gpu(0), gpu(1), ram=64), device_map=(("", "cuda:0"), *half,
                                                                            ("lm_head", "cpu"))))  # fmt: skip

    assert "The layers are on cuda:0 (NVIDIA GeForce RTX 3090), cuda:1" in found
    assert "What is in RAM: head." in found


@pytest.mark.parametrize(
    ("precision", "wide"),
    [
        pytest.param("fp16", True, id="half precision: the article's figure is fp32"),
        pytest.param("int8", False, id="8-bit"),
        pytest.param("nf4", False, id="4-bit"),
        pytest.param("fp32", False, id="fp32 itself"),
    ],
)
def test_twice_as_much_is_said_of_half_precision_only(lora: ModelInfo, precision: str, wide: bool) -> None:
    found = said(decide(lora, machine(gpu(0, total=80), ram=64), precision=precision))

    assert "The LoRA my LoRA (rank 128) is merged" in found
    assert ("Twice as much (26.3 GB) is needed only in fp32." in found) is wide


def test_a_limit_that_sends_layers_to_the_disk_is_blamed_and_not_the_memory(llava: ModelInfo) -> None:
    limited = said(decide(llava, machine(ram=880), "cpu", max_memory=(("cpu", 6 * GIB),)))
    full = said(decide(llava, machine(ram=8, available=7), "cpu"))

    assert "More than the limits that you set does not go into memory, so " in limited
    assert "memory is full" not in limited
    assert "The memory is full, so " in full


@pytest.mark.parametrize(
    ("hardware", "preset", "settings", "says"),
    [
        pytest.param(
            ONE,
            "cpu",
            {"cpu_layers_mode": "stream"},
            "Where layers in RAM run (stream) makes no difference: this plan uses no GPU.",
            id="a mode with the preset CPU only",
        ),
        pytest.param(
            machine(gpu(0, free=0.5), ram=64),
            "low",
            {"cpu_layers_mode": "stream"},
            "Where layers in RAM run (stream) makes no difference: this plan uses no GPU.",
            id="a mode, and the card is full",
        ),
        pytest.param(
            ONE,
            "high",
            {"cpu_layers_mode": "stream"},
            "makes no difference: all layers fit on GPUs.",
            id="a mode, and all layers are on the card",
        ),
        pytest.param(
            ONE,
            "cpu",
            {"max_memory": (("cuda:0", GIB),)},
            "The limit for cuda:0 makes no difference: this plan does not use it.",
            id="a limit for a card that the preset leaves alone",
        ),
        pytest.param(
            machine(rtx_2080_ti(0), rtx_2080_ti(1), ram=64),
            "mid",
            {"gpus": (1,), "max_memory": (("cuda:0", GIB),)},
            "The limit for cuda:0 makes no difference: this plan does not use it.",
            id="a limit for a card that is not among those to use",
        ),
    ],
)
def test_a_setting_without_effect_is_called_so(
    llava: ModelInfo, hardware: Any, preset: str, settings: dict[str, Any], says: str
) -> None:
    assert says in said(decide(llava, hardware, preset, **settings))


def test_a_limit_with_effect_is_not_called_useless(llava: ModelInfo) -> None:
    assert "makes no difference" not in said(decide(llava, ONE, "low", max_memory=(("cuda:0", 4 * GIB),)))


def test_a_limit_for_a_card_that_is_left_alone_is_named(llava: ModelInfo) -> None:
    two = machine(gpu(0), gpu(1), ram=64)

    found = decide(llava, two, "auto", max_memory=(("cuda:0", 1 * GIB), ("cpu", 60 * GIB)))

    assert found.visible_gpus == (1,)
    assert "cuda:0, for which you set a limit, is not used." in said(found)
    assert "cuda:1, for which" not in said(found)
    assert "cpu, for which" not in said(found)


@pytest.mark.parametrize(
    ("hardware", "preset", "overrides"),
    [
        pytest.param(ONE, "auto", {}, id="it fits"),
        pytest.param(
            machine(gpu(0, free=3), ram=8, available=6), "mid", {}, id="on the disk, both ways alike"
        ),
        pytest.param(machine(gpu(0, free=1), ram=8, available=1), "low", {}, id="nothing fits"),
        pytest.param(machine(ram=6, available=5), "cpu", {"precision": "bf16"}, id="nearly all on the disk"),
    ],
)
def test_no_alternative_reads_like_the_plan(
    llava: ModelInfo, hardware: Any, preset: str, overrides: dict[str, Any]
) -> None:
    found = decide(llava, hardware, preset, **overrides)
    told = {str(reason) for reason in found.reasons}

    for other in found.alternatives:
        alike = reads_alike(other.tokens_per_s, found.expected.tokens_per_s, "rate")
        same = (other.precision, other.verdict) == (found.precision, found.verdict) and alike
        assert not (same and (other.verdict == "no" or other.why_not.code == "why.no_gain")), other
        assert found.verdict != "no" or other.precision != found.precision or str(other.why_not) not in told
