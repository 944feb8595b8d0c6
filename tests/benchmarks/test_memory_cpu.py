"""The CPU benchmark's cases, plans, prompts and verdicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from backends.models.identify import identify
from benchmarks import memory_cases, memory_cpu, memory_figures
from benchmarks.memory_cases import CASES, Case
from benchmarks.memory_figures import Measured
from tests.support import checkpoints
from tests.support.machines import machine
from tests.support.plans import make_plan

ONE = Measured(
    "case", 10**9, 500, predicted_peak=2_000_000_000, measured_peak=1_900_000_000,
    predicted_load_peak=1_000_000_000, measured_load_peak=900_000_000, predicted_first_s=1.0,
    measured_first_s=1.1, predicted_tokens_per_s=10.0, measured_tokens_per_s=11.0, predicted_load_s=1.0,
    measured_load_s=1.0, parts={}, held={"untouched": 0}, limit="a group", finished=True,
)  # fmt: skip


def test_the_cases_are_those_of_the_goal() -> None:
    assert len(CASES) >= 24
    assert len({case.name for case in CASES}) == len(CASES)
    assert {case.precision for case in CASES} == {"bf16", "fp32"}
    assert {case.shape.family for case in CASES} == {"llama", "llava", "dynamic"}
    assert (min(case.context for case in CASES), max(case.context for case in CASES)) == (512, 4096)
    assert {case.images for case in CASES} >= {0, 1, 2, 4}
    assert sum(case.disk > 0 for case in CASES) >= 4


@pytest.mark.parametrize("disk", [0, 3])
def test_plans_are_the_planners_with_the_last_layers_on_the_disk(tmp_path: Path, disk: int) -> None:
    model = identify(checkpoints.llama(tmp_path / "llama", layers=8))
    case = Case(memory_cases.LLAMA_01, "bf16", 1024, disk=disk)

    found = memory_cpu.plan_for(case, model, machine(ram=64), tmp_path / "offload")

    on_disk = [name for name, device in found.device_map if device == "disk"]
    assert len(on_disk) == disk
    assert (found.precision, found.context_tokens, found.images) == ("bf16", 1024, 0)
    assert found.visible_gpus == ()


def test_prompts_are_as_long_as_asked() -> None:
    rate = memory_cases.tokens_per_word()
    assert 0.5 < rate < 4
    assert len(memory_cases.words(300, rate).split()) == int(300 / rate)


@pytest.mark.parametrize(
    ("measured", "met"),
    [
        pytest.param(1_900_000_000, True, id="five per cent"),
        pytest.param(1_860_000_000, True, id="less than 150 MB"),
        pytest.param(2_300_000_000, False, id="15 per cent below"),
        pytest.param(1_700_000_000, False, id="18 per cent above"),
    ],
)
def test_a_peak_is_met_within_ten_per_cent_or_150_mb(measured: int, *, met: bool) -> None:
    assert replace(ONE, measured_peak=measured).memory_met() is met


def test_weights_that_no_question_touched_can_be_counted() -> None:
    low = replace(ONE, measured_peak=1_700_000_000, held={"untouched": 150_000_000})
    assert not low.memory_met()
    assert low.memory_met(low.held["untouched"])

    table = memory_figures.rows([low, ONE], failed=0)

    assert [row.value for row in table[:2]] == ["1 of 2", "2 of 2"]


def test_what_was_untouched_is_weights_in_half_precision_beyond_the_resident_pages() -> None:
    plan = make_plan("model", weights_bytes=1000)
    ram = plan.devices[0]
    bf16, fp32 = (replace(plan, precision=name) for name in ("bf16", "fp32"))

    assert memory_figures.untouched(bf16, ram, 600) == 400
    assert memory_figures.untouched(bf16, ram, 1200) == 0
    assert memory_figures.untouched(fp32, ram, 600) == 0  # converted into memory of its own


def test_the_larger_of_load_and_answer_counts() -> None:
    assert replace(ONE, measured_load_peak=2_500_000_000).memory_error == -500_000_000


def test_the_table_counts_failures_as_missed() -> None:
    slow = replace(ONE, measured_tokens_per_s=20.0, finished=False)

    table = [(row.value, row.met) for row in memory_figures.rows([ONE, slow], failed=1)]

    assert table[0] == ("2 of 3", False)
    assert ("1 of 3", False) in table
    assert table[-1] == ("2 of 3", False)


@pytest.mark.parametrize(("measured", "met"), [(1.0, True), (1.3, True), (1.5, False), (None, False)])
def test_speeds_are_met_within_a_quarter(measured: float | None, *, met: bool) -> None:
    assert memory_figures.speed_met(1.0, measured) is met
