"""Seconds follow from bytes and FLOPs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.models.types import ModelInfo
from backends.placement import speed
from backends.placement.estimate import Workload
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

    # 13.5 GB of weights, and a cache of 1,024 tokens, at three quarters of 936 GB/s.
    assert tokens_per_s == pytest.approx(0.75 * 936 / (13.5 + 0.54), rel=0.05)


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
        pytest.param(60.0, 40.0, "stream", id="about as fast, and sooner"),
        pytest.param(25.0, 200.0, "stream", id="slower, but a picture is read in a second, not in a minute"),
        pytest.param(6.0, 40.0, "compute", id="a narrow bus"),
        pytest.param(16.0, 200.0, "compute", id="fast RAM and a middling bus"),
    ],
)
def test_layers_in_ram_run_where_the_bandwidths_say(
    llava: ModelInfo, pcie: float, ram_gbps: float, mode: str
) -> None:
    hardware = machine(rtx_4060(pcie_gbps=pcie), ram=64)
    hardware = replace(hardware, ram=replace(hardware.ram, memory_gbps=ram_gbps))

    found = plan(hardware, llava, PlanRequest("m", Preset.MID))

    assert found.cpu_layers_mode == mode
    assert {f"reason.{mode}", "reason.mode_answer"} <= {reason.code for reason in found.reasons}


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
    # Faster than a disk of 2 GB/s would be the conversion to float32.
    assert speed.load_seconds(machine(), 3 * 10**9, FP32, on_gpu=False) == pytest.approx(3 / 1.5 + 1)


def test_measured_figures_of_the_cpu_replace_what_instruction_sets_promise() -> None:
    blank = machine(features=("avx2",))
    cpu = replace(blank.cpu, gflops_bf16=400.0, vector_gbps_bf16=16.0, vector_gbps_fp32=20.0)
    measured = replace(blank, cpu=cpu)

    rates = speed.cpu_rates(measured, BF16, quantized=False)

    assert rates.math == pytest.approx(0.9 * 400e9)
    assert rates.read == pytest.approx(0.85 * 16e9)
    assert speed.cpu_rates(measured, FP32, quantized=False).read == pytest.approx(0.93 * 20e9)
    assert speed.cpu_rates(blank, BF16, quantized=False).math < rates.math


def test_weights_that_visit_a_gpu_come_from_ordinary_ram() -> None:
    pinned_only = machine(gpu(0, pcie_gbps=24.0), ram=64)
    measured = machine(gpu(0, pcie_gbps=24.0, pageable_gbps=7.0), ram=64)

    assert speed.gpu_rates(pinned_only.gpus[0], pinned_only, FP16).link == pytest.approx(12e9)
    assert speed.gpu_rates(measured.gpus[0], measured, FP16).link == pytest.approx(7e9)
    # From the disk a weight goes through RAM first, where it is copied once (7 GB/s): all take their time.
    disk = 1 / (1 / (measured.disk.read_gbps or 0) + 1 / 7 + 1 / 7)
    assert speed.gpu_rates(measured.gpus[0], measured, FP16).disk == pytest.approx(disk * 1e9)


def test_float32_on_a_gpu_is_as_fast_as_measured() -> None:
    card = machine(gpu(0, tflops_bf16=40.0, tflops_fp32=20.0))
    assert speed.gpu_rates(card.gpus[0], card, FP32).math == pytest.approx(0.67 * 20e12)


@pytest.mark.parametrize(
    ("family", "passes"),
    [
        pytest.param("llava", 2, id="the picture, then the words"),
        pytest.param("qwen2_5_vl", 1, id="all at once"),
    ],
)
def test_streamed_weights_are_moved_for_every_pass(llava: ModelInfo, family: str, passes: int) -> None:
    rates = speed.Rates(
        read=1e15, math=1e18, link=1e9, disk=1e9, overlapped=True, layer_s=0.0
    )  # fmt: skip
    part = speed.Work(0, 0, 0, 0, streamed_bytes=3 * 10**9)

    seconds = speed.first_token_seconds(
        [(rates, part)], llava.text, llava.vision, Workload(2048, 1, 576), family
    )

    assert seconds == pytest.approx(3 * passes, rel=0.01)


@pytest.mark.parametrize(
    ("work", "tokens"),
    [
        pytest.param(Workload(2048, 0, 0), 1056, id="words only: half of the context"),
        pytest.param(Workload(2048, 2, 576), 1632, id="pictures fill more than half of it"),
        pytest.param(Workload(512, 2, 576), 512, id="pictures fill it"),
    ],
)
def test_speed_is_stated_half_way_between_the_first_question_and_the_end(work: Workload, tokens: int) -> None:
    assert speed.half_way(work) == tokens


def test_a_prompt_reads_the_experts_that_single_tokens_leave_out(llava: ModelInfo) -> None:
    rates = speed.Rates(
        read=1e9, math=1e18, link=1e9, disk=1e9, overlapped=True, layer_s=0.0,
        attention=1e9,
    )  # fmt: skip
    sparse = [(rates, speed.Work(10**9, 1, 1, 0, whole_bytes=8 * 10**9))]
    work = Workload(2048, 0, 0)

    cache_s = 2 * 4096 * 2 * (2048 + 64) / 2 / 1e9  # half-way between a question of 64 tokens and the end
    assert speed.decode_seconds(sparse, llava.text, work, 2) == pytest.approx(1.0012 + cache_s, rel=1e-6)
    assert speed.first_token_seconds(sparse, llava.text, None, work) == pytest.approx(8, rel=0.01)
    assert sparse[0][1].bytes_for(2) == 2 * 10**9
