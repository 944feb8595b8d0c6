"""Windows promises no more than RAM and page file hold: the page file to set, for a table of machines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.hardware.types import HardwareSnapshot
from backends.models.types import ModelInfo
from backends.placement.budget import page_file, sold_ram
from backends.placement.planner import plan
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from backends.text import Text
from tests.support.machines import GIB, gpu, machine

# What Windows and a browser use of each machine's RAM.
USED = 3.5
CARD = gpu(
    0, "NVIDIA GeForce GTX 1650", 4, 3.2, compute_capability=(7, 5), memory_gbps=128.0, tflops_bf16=6.0
)


def windows(ram: float, pages: float) -> HardwareSnapshot:
    """The small card in a machine with `ram` and a page file of `pages` GiB."""
    return machine(CARD, ram=ram, available=ram - USED, commit=ram + pages, os="windows", disk=500)


def balanced(llava: ModelInfo, hardware: HardwareSnapshot, **overrides: object) -> Plan:
    """LLaVA-1.5-7B in 8-bit, what the card does not hold in RAM at full width: about 14 GiB there."""
    request = PlanRequest("m", Preset.MID, Overrides(**overrides))  # type: ignore[arg-type]
    return plan(hardware, llava, request)


def told(made: Plan, code: str) -> Text | None:
    return next((reason for reason in made.reasons if reason.code in (code, f"{code}_barely")), None)


@pytest.mark.parametrize(
    ("committed", "ram", "others", "expected"),
    [
        (16.0, 16, 4.0, 6),  # 16 + 4 + 1.28 (8 % of RAM) - 16 = 5.28
        (16.0, 32, 4.0, 0),
        (28.0, 32, 4.0, 3),  # 28 + 4 + 2.56 - 32 = 2.56
        (16.0, 8, 7.5, 17),  # 16 + 7.5 + 1 - 8 = 16.5: also where nothing at all could be promised before
        (8.0, 8, 3.0, 4),  # 8 + 3 + 1 - 8 = 4: a whole number stays
        (8.001, 8, 3.0, 5),
        (2.0, 8, 3.0, 0),
    ],
)
def test_the_arithmetic(committed: float, ram: int, others: float, expected: int) -> None:
    """What is asked for, what others use and the margin, less the RAM: in whole GiB, upwards."""
    assert page_file(int(committed * GIB), ram * GIB, int(others * GIB)) == expected * GIB


@pytest.mark.parametrize(
    ("needed", "others", "expected"), [(4, 3, 8), (5, 3, 12), (12, 4, 24), (10, 4, 16), (9999, 0, None)]
)
def test_the_ram_that_is_sold(needed: int, others: int, expected: int | None) -> None:
    assert sold_ram(needed * GIB, others * GIB) == (expected and expected * GIB)


# RAM and page file in GiB -> the verdict, the page file to set, and (RAM, page file) where RAM is too small.
# 15.81 GiB are asked for, 13.1 of them RAM; 3.5 are in use, and 8 % of RAM (at least 1) are kept.
TABLE = {
    (8, 0): ("no", 13, (24, 0)),  # 15.81 + 3.5 + 1 - 8 = 12.31
    (8, 4): ("no", 13, (24, 0)),
    (8, 16): ("no", None, (24, 0)),
    (16, 0): ("no", 5, (24, 0)),  # 15.81 + 3.5 + 1.28 - 16 = 4.59
    (16, 4): ("no", 5, (24, 0)),
    (16, 16): ("no", None, (24, 0)),
    (20, 0): ("no", 1, None),  # 15.81 + 3.5 + 1.6 - 20 = 0.91
    (20, 4): ("slow", None, None),
    (32, 0): ("slow", None, None),
    (32, 4): ("slow", None, None),
    (32, 16): ("slow", None, None),
}


@pytest.mark.parametrize(("ram", "pages"), TABLE, ids=lambda size: f"{size}")
def test_what_a_machine_is_told(ram: int, pages: int, llava: ModelInfo) -> None:
    verdict, to_set, more = TABLE[ram, pages]
    made = balanced(llava, windows(ram, pages), gpu_layers=4)
    assert made.verdict == verdict
    commit = told(made, "reason.short_commit")
    assert (commit and dict(commit.values)["page_file"]) == (to_set and to_set * GIB)
    ram_too = told(made, "reason.with_more_ram") or told(made, "reason.with_more_ram_only")
    found = None if ram_too is None else dict(ram_too.values)
    assert (found and (found["ram"], found.get("page_file", 0))) == (more and (more[0] * GIB, more[1] * GIB))


@pytest.mark.parametrize("ram", [8, 16, 20, 24, 32])
@pytest.mark.parametrize("pages", [0, 4, 16])
@pytest.mark.parametrize("preset", [Preset.HIGH, Preset.MID, Preset.CPU])
def test_what_is_told_comes_true(ram: int, pages: int, preset: Preset, llava: ModelInfo) -> None:
    """With that page file Windows promises enough, with a GiB less it does not; with that RAM it runs."""
    request = PlanRequest("m", preset)
    made = plan(windows(ram, pages), llava, request)
    commit = told(made, "reason.short_commit")
    if commit is not None:
        size = int(str(dict(commit.values)["page_file"])) // GIB
        assert size > pages
        same = Overrides(device_map=made.device_map, precision=made.precision)
        enough, short = (
            plan(windows(ram, there), llava, replace(request, overrides=same)) for there in (size, size - 1)
        )
        assert told(enough, "reason.short_commit") is None
        assert told(short, "reason.short_commit") is not None
    more = told(made, "reason.with_more_ram") or told(made, "reason.with_more_ram_only")
    if more is not None:
        figures = {name: int(str(value)) // GIB for name, value in more.values}
        better = windows(figures["ram"], figures.get("page_file", 0))
        assert plan(better, llava, request).verdict != "no"


def test_what_others_were_promised_needs_a_page_file_too(llava: ModelInfo) -> None:
    """They use 3.5 GiB and were promised 9: 15.92 + 9 + 1.28 - 16 = 10.2."""
    seen = windows(16, 8)
    told_by_windows = replace(seen, ram=replace(seen.ram, commit_available_bytes=(24 - 9) * GIB))
    made = balanced(llava, told_by_windows, gpu_layers=4)
    commit = told(made, "reason.short_commit")
    assert commit is not None
    assert dict(commit.values)["page_file"] == 11 * GIB
    more = told(made, "reason.with_more_ram") or told(made, "reason.with_more_ram_only")
    assert more is not None
    assert dict(more.values) == {"ram": 24 * GIB, "page_file": 3 * GIB}  # 15.92 + 9 + 1.92 - 24 = 2.84


def test_a_card_that_is_too_small_is_no_matter_of_the_page_file(llava: ModelInfo) -> None:
    made = balanced(llava, windows(16, 0), gpu_layers=32)
    assert [reason.code for reason in made.reasons if "short" in reason.code] == ["reason.short"]
    assert not any("page file" in str(reason) for reason in made.reasons)


def test_what_loading_asks_for_counts_where_it_is_more(llava: ModelInfo) -> None:
    """A layer that is quantized passes through RAM; a short conversation takes less than that."""
    hardware = machine(gpu(0), ram=24, available=20, os="windows", commit=6)
    short = Overrides(precision="nf4", context_tokens=64, images=0)
    made = plan(hardware, llava, PlanRequest("m", Preset.LOW, short))
    commit = told(made, "reason.short_commit")
    assert commit is not None
    card = next(share for share in made.devices if share.device == "cuda:0")
    assert dict(commit.values)["needed"] == (
        made.load_peak_ram_bytes + card.weights_bytes + card.overhead_bytes
    )


def test_ram_that_the_person_has_limited_is_not_to_be_bought(llava: ModelInfo) -> None:
    made = balanced(llava, windows(64, 16), max_memory=(("cpu", 4 * GIB),))
    assert made.verdict == "no"
    assert told(made, "reason.with_more_ram") is None
    assert told(made, "reason.with_more_ram_only") is None


def test_linux_has_no_such_limit(llava: ModelInfo) -> None:
    made = balanced(llava, machine(CARD, ram=8))
    assert made.verdict == "no"
    assert not any("page file" in str(reason) for reason in made.reasons)
