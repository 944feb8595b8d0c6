"""Seconds follow from bytes and FLOPs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.models.types import ModelInfo
from backends.placement import speed
from backends.placement.planner import plan
from backends.placement.precision import Precision
from backends.placement.types import Overrides, PlanRequest
from backends.presets import Preset
from tests.support.machines import gpu, machine, rtx_4060

FP16, FP32, BF16 = Precision("fp16", "float16"), Precision("fp32", "float32"), Precision("bf16", "bfloat16")


def expected(
    model: ModelInfo, hardware: object, preset: Preset = Preset.AUTO, **overrides: object
) -> tuple[float, float]:
    request = PlanRequest("m", preset, Overrides(**overrides))  # type: ignore[arg-type]
    found = plan(hardware, model, request).expected  # type: ignore[arg-type]
    return found.tokens_per_s, found.first_token_s


def test_decoding_reads_every_weight_once(llava: ModelInfo) -> None:
    tokens_per_s, _ = expected(llava, machine(gpu(0)), Preset.HIGH)

    # 13.5 GB of weights at three quarters of 936 GB/s.
    assert tokens_per_s == pytest.approx(0.75 * 936 / 13.9, rel=0.1)


def test_twice_the_bandwidth_is_nearly_twice_the_speed(llava: ModelInfo) -> None:
    slow, _ = expected(llava, machine(gpu(0, memory_gbps=400.0)), Preset.HIGH)
    fast, _ = expected(llava, machine(gpu(0, memory_gbps=800.0)), Preset.HIGH)

    assert 1.8 < fast / slow <= 2.0


def test_the_first_token_waits_for_flops(llava: ModelInfo) -> None:
    _, slow = expected(llava, machine(gpu(0, tflops_bf16=20.0)), Preset.HIGH)
    _, fast = expected(llava, machine(gpu(0, tflops_bf16=80.0)), Preset.HIGH)

    assert slow > 2.5 * fast


def test_bf16_without_instructions_is_several_times_slower_to_start(llava: ModelInfo) -> None:
    _, fp32 = expected(llava, machine(ram=64), Preset.CPU)
    _, bf16 = expected(llava, machine(ram=64), Preset.CPU, precision="bf16")

    assert 5 < bf16 / fp32 < 9


def test_more_pictures_take_longer(llava: ModelInfo) -> None:
    one, three = (expected(llava, machine(gpu(0)), images=count)[1] for count in (1, 3))

    assert three > 2 * one


def test_streaming_is_bound_by_the_bus_and_starts_sooner(llava: ModelInfo) -> None:
    narrow, wide = (
        expected(llava, machine(rtx_4060(pcie_gbps=gbps), ram=64), Preset.MID, cpu_layers_mode="stream")
        for gbps in (6.0, 24.0)
    )
    compute = expected(llava, machine(rtx_4060(), ram=64), Preset.MID, cpu_layers_mode="compute")

    assert wide[0] > 2.5 * narrow[0]
    assert wide[1] < compute[1]


@pytest.mark.parametrize(
    ("pcie", "ram_gbps", "mode"),
    [
        pytest.param(25.0, 40.0, "stream", id="about as fast, and sooner"),
        pytest.param(6.0, 40.0, "compute", id="a narrow bus"),
        pytest.param(25.0, 200.0, "compute", id="fast RAM"),
    ],
)
def test_layers_in_ram_run_where_the_bandwidths_say(
    llava: ModelInfo, pcie: float, ram_gbps: float, mode: str
) -> None:
    hardware = machine(rtx_4060(pcie_gbps=pcie), ram=64)
    hardware = replace(hardware, ram=replace(hardware.ram, memory_gbps=ram_gbps))

    found = plan(hardware, llava, PlanRequest("m", Preset.MID))

    assert found.cpu_layers_mode == mode
    assert any("tokens/s, against" in str(reason) or f"{mode}" in reason.code for reason in found.reasons)


def test_unknown_figures_are_taken_low(llava: ModelInfo) -> None:
    blank = gpu(0, memory_gbps=None, pcie_gbps=None, tflops_bf16=None)
    hardware = machine(blank)
    hardware = replace(hardware, ram=replace(hardware.ram, memory_gbps=None))

    assert 0 < expected(llava, hardware, Preset.HIGH)[0] < expected(llava, machine(gpu(0)), Preset.HIGH)[0]


def test_cpu_rates_by_instruction_set() -> None:
    plain, new, amx = (
        speed.cpu_rates(machine(features=features), BF16, quantized=False).math
        for features in (("avx2",), ("avx512_bf16",), ("amx_bf16",))
    )
    fp32 = speed.cpu_rates(machine(), FP32, quantized=False).math

    assert plain < fp32 < new < amx


def test_loading_takes_the_disks_time() -> None:
    assert speed.load_seconds(machine(), 14 * 10**9, FP16, on_gpu=True) == pytest.approx(14 / 2 + 3)
    assert speed.load_seconds(machine(), 10**7, FP32, on_gpu=False) < 2
