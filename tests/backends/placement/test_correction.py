"""What earlier runs change in a plan, as tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.hardware.describe import from_json
from backends.models.types import ModelInfo
from backends.placement.correction import NEUTRAL, RECENT, Correction, Factor, Run, correction, device_kind
from backends.placement.planner import plan
from backends.placement.types import DeviceShare, Overrides, PlanRequest
from backends.presets import Preset

MIB = 2**20
CARD = "NVIDIA GeForce RTX 3090"


def runs(*ratios: float, failed: bool = False, expected: int = 1000 * MIB) -> list[Run]:
    """Runs on the CPU in fp32, newest first."""
    return [Run("transformers", "fp32", "cpu", expected, int(expected * ratio), failed) for ratio in ratios]


def share(device: str = "cpu", name: str = "A CPU", *, modelled: int = 1000 * MIB) -> DeviceShare:
    part = modelled // 4
    return DeviceShare(device, name, 16 << 30, 5 << 30, 1 << 30, part, part, modelled - 2 * part)


def learnt(found: list[Run]) -> float:
    return round(correction(found).factor("transformers", "fp32", "cpu").factor, 3)


@pytest.mark.parametrize(
    ("ratios", "factor"),
    [
        pytest.param([], 1.0, id="nothing was run: nothing changes"),
        pytest.param([1.1], 1.1, id="one run may warn"),
        pytest.param([0.9], 1.0, id="one run promises nothing away"),
        pytest.param([0.9, 0.9], 1.0, id="two promise nothing away"),
        pytest.param([0.9, 0.88, 0.92], 0.9, id="three may"),
        pytest.param([1.1, 1.1, 9.0, 1.1, 0.01], 1.1, id="one that is far off does not decide"),
        pytest.param([3.0, 3.0, 3.0], 1.25, id="never more than a quarter up"),
        pytest.param([0.1, 0.1, 0.1], 0.75, id="never more than a quarter down"),
        pytest.param([1.0] * 5 + [1.2] * 4, 1.0, id="newer runs outweigh older ones"),
        pytest.param([1.2] * RECENT + [0.8] * 100, 1.2, id="old runs are forgotten"),
    ],
)
def test_the_factor_is_the_bounded_median_of_recent_runs(ratios: list[float], factor: float) -> None:
    assert learnt(runs(*ratios)) == factor


@pytest.mark.parametrize(
    ("found", "factor"),
    [
        pytest.param(runs(1.0, failed=True), 1.1, id="a failure just within the budget raises noticeably"),
        pytest.param(runs(1.2, failed=True), 1.2, id="a failure far over raises by as much"),
        pytest.param(runs(9.0, failed=True), 1.25, id="and is bounded"),
        pytest.param(runs(1, 1, 1) + runs(1.2, failed=True), 1.2, id="good runs after it don't hide it"),
        pytest.param(runs(0.8, 0.8, 0.8) + runs(1.0, failed=True), 1.1, id="nothing is lowered beside it"),
        pytest.param(runs(*[1.0] * RECENT) + runs(2.0, failed=True), 1.0, id="enough good runs forget it"),
    ],
)
def test_a_failure_teaches_to_count_higher(found: list[Run], factor: float) -> None:
    assert learnt(found) == factor


@pytest.mark.parametrize(
    "other",
    [
        {"engine": "llamacpp"},
        {"precision": "int8"},
        {"kind": "cpu+cuda"},
        {"kind": CARD},
    ],
    ids=["engine", "precision", "RAM beside a GPU", "device"],
)
def test_runs_teach_about_their_own_kind_only(other: dict[str, str]) -> None:
    elsewhere = [replace(run, **other) for run in runs(1.2, 1.2, 1.2)]
    assert learnt(elsewhere) == 1.0
    assert learnt(elsewhere + runs(1.1)) == 1.1


def test_a_run_without_a_prediction_teaches_nothing() -> None:
    assert correction(runs(5.0, expected=0)) == NEUTRAL


@pytest.mark.parametrize(
    ("device", "with_gpu", "kind"),
    [("cpu", False, "cpu"), ("cpu", True, "cpu+cuda"), ("cuda:3", True, CARD)],
)
def test_kinds_of_devices(device: str, with_gpu: bool, kind: str) -> None:
    assert device_kind(device, CARD, with_gpu=with_gpu) == kind


def test_weights_and_cache_are_exact_and_stay() -> None:
    before = share()
    after = correction(runs(1.2)).apply(before, "transformers", "fp32", with_gpu=False)
    assert (after.weights_bytes, after.kv_cache_bytes) == (before.weights_bytes, before.kv_cache_bytes)
    assert after.activation_bytes == round(before.activation_bytes * 1.2)
    assert after.staging_bytes == round(before.staging_bytes * 1.2)
    assert after.overhead_bytes == round(before.overhead_bytes * 1.2)
    assert after.budget_bytes == before.budget_bytes


def test_a_small_run_does_not_promise_a_large_one_more_than_it_had_to_spare() -> None:
    small = correction(runs(0.8, 0.8, 0.8, expected=500 * MIB))
    after = small.apply(share(modelled=4000 * MIB), "transformers", "fp32", with_gpu=False)
    assert share(modelled=4000 * MIB).total_bytes - after.total_bytes == pytest.approx(100 * MIB, abs=4)


@pytest.mark.parametrize(
    ("found", "code", "percent"),
    [
        (runs(1.2), "reason.corrected_up", 20),
        (runs(0.9, 0.9, 0.9), "reason.corrected_down", 10),
        (runs(1.001), None, 0),
        ([], None, 0),
    ],
    ids=["higher", "lower", "hardly", "not at all"],
)
def test_the_reasons_say_by_how_much(found: list[Run], code: str | None, percent: int) -> None:
    made = correction(found)
    after = made.apply(share(), "transformers", "fp32", with_gpu=False)
    said = made.reasons((after,), "transformers", "fp32")
    assert [reason.code for reason in said] == ([code] if code else [])
    if code:
        assert dict(said[0].values)["percent"] == percent


def test_the_reason_of_a_limited_correction_says_what_was_really_done() -> None:
    small = correction(runs(0.8, 0.8, 0.8, expected=500 * MIB))
    after = small.apply(share(modelled=5000 * MIB), "transformers", "fp32", with_gpu=False)
    (said,) = small.reasons((after,), "transformers", "fp32")
    assert dict(said.values)["percent"] == 2  # 100 MiB of 5000


LAPTOP = from_json(
    {
        "os": "linux",
        "gpus": [{"index": 0, "name": CARD, "total_bytes": 6 << 30, "free_bytes": 6 << 30}],
        "ram": {"total_bytes": 32 << 30, "available_bytes": 30 << 30},
        "cpu": {"name": "A CPU", "cores": 8, "features": ["avx2"]},
        "disk": {"path": "/data", "free_bytes": 100 << 30},
    },
    "a laptop",
)


def hybrid(factor: float, llava: ModelInfo) -> tuple[int, tuple[DeviceShare, ...], list[str]]:
    taught = Correction(((("transformers", "fp16", CARD), Factor(factor, 10**9, 3)),))
    request = PlanRequest("llava", Preset.LOW, Overrides(precision="fp16"))
    made = plan(LAPTOP, llava, request, correction=taught)
    return made.gpu_layers, made.devices, [reason.code for reason in made.reasons]


def test_a_plan_that_was_taught_leaves_more_or_less_room(llava: ModelInfo) -> None:
    plain, _, silent = hybrid(1.0, llava)
    fewer, devices, said = hybrid(1.25, llava)
    more, _, _ = hybrid(0.75, llava)
    assert fewer < plain <= more
    assert "reason.corrected_up" in said
    assert not [code for code in silent if "corrected" in code]
    assert all(device.total_bytes <= device.budget_bytes for device in devices)


def test_neutral_is_the_default(llava: ModelInfo) -> None:
    request = PlanRequest("llava", Preset.AUTO)
    assert plan(LAPTOP, llava, request) == plan(LAPTOP, llava, request, correction=NEUTRAL)
