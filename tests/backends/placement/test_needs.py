"""What would I need? The smallest change here, and the smallest card at full precision."""

from __future__ import annotations

from typing import Any

import pytest

from backends.errors import SettingInvalid
from backends.hardware.cards import cards
from backends.models.types import ModelInfo
from backends.placement.needs import Needs, needs
from backends.placement.planner import plan
from backends.placement.types import Overrides, PlanRequest
from backends.presets import Preset
from tests.support.machines import GIB, gpu, machine, rtx_2060, rtx_4060


def ask(model: ModelInfo, hardware: Any, preset: str = "high", **overrides: Any) -> Needs:
    return needs(hardware, model, PlanRequest("m", Preset(preset), Overrides(**overrides)))


def said(found: Needs) -> str:
    return " | ".join(map(str, found.sentences))


def test_what_runs_needs_no_change(llava: ModelInfo) -> None:
    found = ask(llava, machine(gpu(0)))

    assert found.runs
    assert found.full_precision
    assert found.change is None
    assert "runs as it is" in said(found)


@pytest.mark.parametrize(
    ("hardware", "asked", "overrides", "preset"),
    [
        pytest.param(machine(gpu(0, total=12), ram=32), "high", {}, Preset.MID, id="12 GB: 8-bit, not 4-bit"),
        pytest.param(machine(rtx_2060(), ram=10), "mid", {}, Preset.LOW, id="6 GB: 4-bit"),
        pytest.param(machine(ram=64), "high", {}, Preset.CPU, id="no GPU: the CPU"),
        pytest.param(
            machine(gpu(0)), "high", {"max_memory": (("cuda:0", GIB),)}, Preset.HIGH, id="a limit in the way"
        ),
    ],
)
def test_the_smallest_change(
    llava: ModelInfo, hardware: Any, asked: str, overrides: dict[str, Any], preset: Preset
) -> None:
    found = ask(llava, hardware, asked, **overrides)

    assert found.change is not None
    assert found.change.preset is preset
    made = plan(hardware, llava, found.change)
    assert made.verdict != "no"
    assert made == found.change_plan


def test_a_shorter_context_comes_before_another_preset(llava: ModelInfo) -> None:
    hardware = machine(gpu(0, total=16, free=15.4))
    asked = PlanRequest("m", Preset.HIGH, Overrides(context_tokens=4096))
    assert plan(hardware, llava, asked).verdict == "no"

    found = needs(hardware, llava, asked)

    assert found.change is not None
    assert found.change.preset is Preset.HIGH
    assert found.change.overrides.context_tokens == 960
    assert "a context of 960 tokens instead of 4,096" in said(found)


def test_where_nothing_runs_it_is_said(llava: ModelInfo) -> None:
    found = ask(llava, machine(ram=2, available=0.2, disk=1))

    assert not found.runs
    assert found.change is None
    assert "No preset and no shorter context" in said(found)
    assert found.card is not None


def test_the_smallest_card_for_a_7b_has_16_gb(llava: ModelInfo) -> None:
    found = ask(llava, machine(rtx_4060(), ram=16), "high")

    assert found.card is not None
    assert (found.card.bytes_each, found.card.count, found.card.precision) == (16 * GIB, 1, "fp16")
    assert found.card.name.startswith("NVIDIA GeForce RTX ")
    assert f"smallest card that holds it at full precision is the {found.card.name} (16.0 GB)" in said(found)


def test_no_smaller_card_would_do(models: dict[str, ModelInfo]) -> None:
    for model in models.values():
        found = ask(model, machine(ram=64), "cpu")
        assert found.card is not None
        full = PlanRequest("m", Preset.HIGH)
        for card in cards():
            if card.facts.gib * GIB < found.card.bytes_each:
                assert plan(machine(card.as_gpu(0), ram=512), model, full).verdict == "no", card


def test_the_ram_beside_the_card(llava: ModelInfo) -> None:
    enough, little = ask(llava, machine(rtx_4060(), ram=16)), ask(llava, machine(ram=2, available=1))

    assert enough.ram_bytes <= 16 * GIB
    assert "the RAM is enough" in said(enough)
    assert little.ram_bytes in (4 * GIB, 8 * GIB)
    assert "it has 2.0 GB" in said(little)


def test_windows_needs_a_page_file_for_what_the_card_holds(llava: ModelInfo) -> None:
    found = ask(llava, machine(rtx_4060(), ram=8, available=4, os="windows", commit=9))

    assert found.card is not None
    assert found.page_file_bytes > 8 * GIB
    assert "set the page file to" in said(found)
    hardware = machine(
        gpu(0, found.card.name, 16, 15.5),
        ram=found.ram_bytes / GIB,
        available=found.ram_bytes / GIB - 4,
        os="windows",
        commit=(found.ram_bytes + found.page_file_bytes) / GIB,
    )
    assert plan(hardware, llava, PlanRequest("m", Preset.HIGH)).verdict != "no"


def test_the_workload_that_was_asked_for_counts(llava: ModelInfo) -> None:
    few, many = (ask(llava, machine(), context_tokens=tokens) for tokens in (1024, 4096))

    assert few.card is not None
    assert many.card is not None
    assert few.card.bytes_each < many.card.bytes_each


@pytest.mark.parametrize(
    ("hardware", "preset", "news"),
    [
        pytest.param(machine(gpu(0)), "auto", False, id="it runs so already"),
        pytest.param(machine(gpu(0)), "low", True, id="4-bit was asked for"),
        pytest.param(machine(gpu(0), ram=64), "cpu", True, id="the CPU was asked for"),
        pytest.param(machine(gpu(0)), "high", False, id="it was asked for"),
    ],
)
def test_full_precision_is_offered_where_it_is_news(
    llava: ModelInfo, hardware: Any, preset: str, news: bool
) -> None:
    assert ("Full precision (fp16) fits" in said(ask(llava, hardware, preset))) is news


def test_the_detail_of_pictures_goes_into_change_and_card(models: dict[str, ModelInfo]) -> None:
    """Pictures of 5,000 tokens need more than the usual ones: whatever is named must hold those."""
    hardware = machine(gpu(0, total=16), ram=64)
    usual, fine = (
        ask(models["qwen2.5-vl-7b"], hardware, "high", images=4, image_tokens=most) for most in (None, 5000)
    )

    assert fine.change is not None
    assert fine.change.overrides.image_tokens == 5000
    assert usual.card is not None
    assert fine.card is not None
    assert fine.card.bytes_each > usual.card.bytes_each


def test_impossible_settings_are_refused_as_by_the_planner(llava: ModelInfo) -> None:
    with pytest.raises(SettingInvalid, match="no usable GPU"):
        ask(llava, machine(), gpus=(0,))


def test_cards_are_sorted_and_no_laptops() -> None:
    found = cards()

    assert [card.facts.gib for card in found] == sorted(card.facts.gib for card in found)
    assert not [card for card in found if "laptop" in card.name.lower()]
    by_name = {card.name: card.price_class for card in found}
    assert by_name["NVIDIA GeForce RTX 4060 Ti"] == 0
    assert by_name["NVIDIA RTX A6000"] == by_name["NVIDIA RTX 6000 Ada Generation"] == 1
    assert by_name["NVIDIA T4"] == by_name["NVIDIA A100"] == by_name["NVIDIA L40S"] == 2
    assert "NVIDIA GeForce GTX 1080 Ti" not in by_name
