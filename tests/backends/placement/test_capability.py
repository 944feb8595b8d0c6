"""What a GPU can't do is not planned, and said: other makers' cards, 8-bit and bf16 on old ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backends.errors import SettingInvalid
from backends.models.types import ModelInfo
from backends.placement.needs import needs
from backends.placement.planner import plan
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from tests.support.machines import gpu, machine


def decide(model: ModelInfo, hardware: Any, preset: str = "auto", **overrides: Any) -> Plan:
    return plan(hardware, model, PlanRequest("m", Preset(preset), Overrides(**overrides)))


def said(made: Plan) -> str:
    return " ".join(map(str, made.reasons))


def card(capability: tuple[int, int], gib: float = 24, name: str = "NVIDIA card", index: int = 0) -> Any:
    return replace(gpu(index, name, gib, gib - 0.5), compute_capability=capability)


RADEON = replace(gpu(0), name="AMD Radeon RX 7900 XTX")


@pytest.mark.parametrize("preset", ["auto", "high", "mid", "low", "custom"])
def test_nothing_is_planned_on_another_makers_card(llava: ModelInfo, preset: str) -> None:
    made = decide(llava, machine(RADEON, ram=64), preset)

    assert made.visible_gpus == ()
    assert "GPU 0 (AMD Radeon RX 7900 XTX) is not used" in said(made)


def test_the_other_card_is_used(llava: ModelInfo) -> None:
    made = decide(llava, machine(RADEON, gpu(1), ram=64))

    assert (made.verdict, made.visible_gpus) == ("fits", (1,))
    assert "AMD Radeon RX 7900 XTX" in said(made)


@pytest.mark.parametrize("others", [(), (gpu(1),)], ids=["alone", "beside another"])
def test_asking_for_it_by_number_is_answered_with_the_reason(
    llava: ModelInfo, others: tuple[Any, ...]
) -> None:
    with pytest.raises(SettingInvalid, match="this is another maker's"):
        decide(llava, machine(RADEON, *others, ram=64), "custom", gpus=(0,))


def test_what_would_i_need_does_not_count_it_either(llava: ModelInfo) -> None:
    found = needs(machine(RADEON, ram=64), llava, PlanRequest("m", Preset.HIGH))

    assert not found.full_precision
    assert found.change is not None
    assert found.change.preset is Preset.CPU


@pytest.mark.parametrize(
    ("capability", "preset", "precision"),
    [
        pytest.param((7, 5), "mid", "int8", id="Turing: 8-bit"),
        pytest.param((7, 0), "mid", "fp16", id="Volta: no 8-bit, so half precision"),
        pytest.param((6, 1), "low", "nf4", id="Pascal: 4-bit"),
        pytest.param((5, 2), "low", "fp16", id="Maxwell: neither"),
    ],
)
def test_bitsandbytes_is_planned_where_it_has_kernels(
    llava: ModelInfo, capability: tuple[int, int], preset: str, precision: str
) -> None:
    made = decide(llava, machine(card(capability), ram=64), preset)

    assert (made.verdict, made.precision, made.visible_gpus) == ("fits", precision, (0,))
    assert ("needs compute capability" in said(made)) == (precision == "fp16")


def test_the_card_that_can_do_8_bit_is_taken(llava: ModelInfo) -> None:
    hardware = machine(card((7, 0)), card((7, 5), 16, "Tesla T4", 1), ram=64)
    hardware = replace(hardware, torch_cuda=(12, 6))

    made = decide(llava, hardware, "mid")

    assert (made.precision, made.visible_gpus) == ("int8", (1,))


def test_recommended_goes_on_to_4_bit_and_says_why(llava: ModelInfo) -> None:
    made = decide(llava, machine(card((7, 0), 8.5, "Tesla V100"), ram=64))

    assert made.precision == "nf4"
    assert "8-bit (LLM.int8) needs compute capability 7.5, and Tesla V100 has 7.0" in said(made)


def test_8_bit_set_by_hand_is_not_put_on_an_old_card(llava: ModelInfo) -> None:
    made = decide(llava, machine(card((7, 0)), ram=64), "custom", precision="int8")

    assert made.visible_gpus == ()
    assert "needs compute capability 7.5" in said(made)
    with pytest.raises(SettingInvalid, match=r"needs compute capability 7\.5"):
        decide(llava, machine(card((7, 0)), ram=64), precision="int8", device_map=(("", "cuda:0"),))


@pytest.mark.parametrize(
    ("capability", "precision"), [((7, 5), "fp16"), ((8, 0), "bf16")], ids=["Turing", "Ampere"]
)
@pytest.mark.parametrize("by_hand", [True, False], ids=["set by hand", "as in the file"])
def test_fp16_takes_the_place_of_bf16_on_old_cards(
    llava: ModelInfo, capability: tuple[int, int], precision: str, by_hand: bool
) -> None:
    model = replace(llava, dtype="bfloat16")

    made = decide(model, machine(card(capability), ram=64), precision="bf16" if by_hand else None)

    assert (made.verdict, made.precision) == ("fits", precision)
    assert ("can't compute in bf16, so fp16 takes its place" in said(made)) == (precision == "fp16")
