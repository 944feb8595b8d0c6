"""How long a person waits decides: a whole answer with its first word, not tokens per second alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.hardware.describe import read_file
from backends.models.types import ModelInfo
from backends.placement.export import plan_to_json
from backends.placement.planner import plan
from backends.placement.types import Expected, Overrides, Plan, PlanRequest
from backends.presets import LONGEST_WAIT_S, Preset
from tests.support.machines import gpu, machine, rtx_4060

HARDWARE = Path(__file__).parents[2] / "hardware"
FAST_RAM = machine(rtx_4060(pcie_gbps=16.0), ram=64)
FAST_RAM = replace(FAST_RAM, ram=replace(FAST_RAM.ram, memory_gbps=170.0))


def decide(model: ModelInfo, hardware: Any, preset: str = "auto", **overrides: Any) -> Plan:
    if isinstance(hardware, str):
        hardware = read_file(HARDWARE / f"{hardware}.json")
    return plan(hardware, model, PlanRequest("m", Preset(preset), Overrides(**overrides)))


def codes(found: Plan) -> list[str]:
    return [reason.code for reason in found.reasons]


def said(found: Plan) -> str:
    return " | ".join(map(str, found.reasons))


def test_an_answer_is_its_first_word_and_the_tokens_after_it() -> None:
    assert Expected(load_s=9, first_token_s=2.0, tokens_per_s=4.0).answer_s == 2 + 128 / 4


def test_a_picture_is_not_waited_for_for_minutes_to_win_half_a_token_a_second(llava: ModelInfo) -> None:
    chosen = decide(llava, "laptop_6gb", "mid")
    compute = decide(llava, "laptop_6gb", "mid", cpu_layers_mode="compute")

    assert chosen.cpu_layers_mode == "stream"
    assert compute.expected.tokens_per_s > chosen.expected.tokens_per_s
    assert compute.expected.first_token_s > 30 * chosen.expected.first_token_s
    assert chosen.expected.answer_s < compute.expected.answer_s
    assert "the first after 2.2 s, takes 2 min in all; the other way it takes 4 min" in said(chosen)
    assert "It would answer at about 1.7 tokens/s, but begin after 2 min instead of 2.2 s." in {
        str(other.why_not) for other in chosen.alternatives
    }


def test_a_mode_that_has_no_room_is_no_argument_against_the_other(llava: ModelInfo) -> None:
    """Sent to the GPU, layers need room there to visit: with as many as compute beside it there is none."""
    most = decide(llava, "laptop_6gb", "low").gpu_layers
    found = decide(llava, "laptop_6gb", "custom", gpu_layers=most, precision="nf4")

    assert "sent to the GPU for every token, for which there is no room." in said(found)
    assert "reason.mode_answer" not in codes(found)


@pytest.mark.parametrize("preset", ["auto", "low", "mid", "high"])
@pytest.mark.parametrize("mode", ["compute", "stream"])
def test_the_mode_that_answers_later_is_never_chosen(llava: ModelInfo, preset: str, mode: Any) -> None:
    for total in (4, 5, 6, 8, 10):
        for ram_gbps, pcie in ((40.0, 6.0), (40.0, 25.0), (200.0, 6.0), (200.0, 60.0)):
            hardware = machine(gpu(0, total=total, pcie_gbps=pcie), ram=64)
            hardware = replace(hardware, ram=replace(hardware.ram, memory_gbps=ram_gbps))
            chosen = decide(llava, hardware, preset)
            other = decide(llava, hardware, preset, cpu_layers_mode=mode)
            if chosen.verdict == "no" or (chosen.precision, chosen.gpu_layers > 0) != (
                other.precision,
                other.gpu_layers > 0,
            ):
                continue
            assert chosen.expected.answer_s <= 1.1 * other.expected.answer_s, (total, ram_gbps, pcie)


def test_an_answer_that_begins_after_a_minute_does_not_fit(llava: ModelInfo) -> None:
    """Ten tokens a second, and a minute before the first: that is slow, and it is said."""
    found = decide(llava, FAST_RAM, "mid", cpu_layers_mode="compute")

    assert found.expected.tokens_per_s > 5
    assert found.expected.first_token_s > LONGEST_WAIT_S
    assert found.verdict == "slow"
    assert "An answer's first word takes about 63 s; more than 30 s counts as slow." in said(found)
    assert "reason.slow" not in codes(found)


def test_without_a_picture_the_same_plan_begins_at_once(llava: ModelInfo) -> None:
    found = decide(llava, FAST_RAM, "mid", cpu_layers_mode="compute", images=0)

    assert found.expected.first_token_s < LONGEST_WAIT_S
    assert found.verdict == "fits"
    assert "reason.late" not in codes(found)


def test_recommended_takes_a_lower_precision_before_a_minute_of_waiting(llava: ModelInfo) -> None:
    found = decide(llava, FAST_RAM)

    assert (found.verdict, found.precision) == ("fits", "nf4")
    assert found.expected.first_token_s < 5


def test_the_slowest_plan_that_runs_still_has_a_speed(llava: ModelInfo) -> None:
    """Rounded to two digits it would be 0.0, as if it did not run."""
    crawling = machine(ram=6, available=5)
    found = decide(llava, replace(crawling, disk=replace(crawling.disk, read_gbps=0.03)))

    assert found.verdict == "slow"
    assert 0 < found.expected.tokens_per_s < 0.005
    assert plan_to_json(found)["expected"]["tokens_per_s"] > 0
    assert "0.0 tokens/s" not in said(found)
