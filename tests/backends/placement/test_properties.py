"""What holds for every plan, over a grid of machines, models, presets and settings."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from backends.models.types import ModelInfo, ModuleKind
from backends.placement.case import CPU, DISK
from backends.placement.planner import plan
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from tests.support.machines import gpu, machine, rtx_2060, rtx_2080_ti, rtx_4060

MACHINES = {
    "no GPU, 8 GB": machine(ram=8),
    "no GPU, 64 GB": machine(ram=64, features=("avx2", "avx512_bf16")),
    "4 GB card on Windows": machine(gpu(0, total=4, free=3.2), ram=16, os="windows", commit=20),
    "6 GB card": machine(rtx_2060(), ram=16),
    "8 GB card": machine(rtx_4060()),
    "11 + 6 GB": machine(rtx_2060(0), rtx_2080_ti(1), ram=64),
    "two 11 GB": machine(rtx_2080_ti(0), rtx_2080_ti(1)),
    "8 x 11 GB, one busy": machine(*(rtx_2080_ti(i, free=2 if i == 3 else None) for i in range(8)), ram=128),
    "24 GB card": machine(gpu(0), ram=64),
    "a full card and no RAM": machine(gpu(0, free=0.1), ram=4, available=0.5, disk=1),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "long context": {"context_tokens": 4000},
    "stream": {"cpu_layers_mode": "stream"},
    "two pictures": {"images": 2},
    "limits": {"max_memory": (("cpu", 6 * 1024**3),)},
}
MODELS = ("llava-1.5-7b", "llava-1.6-7b", "qwen2.5-vl-7b", "starter", "text-6b")


def plans(models: dict[str, ModelInfo], model: str) -> list[tuple[str, Plan]]:
    found = []
    for (machine_name, hardware), preset, (setting, overrides) in itertools.product(
        MACHINES.items(), Preset, SETTINGS.items()
    ):
        if model == "starter" and setting == "long context":
            continue
        if model == "text-6b" and setting == "two pictures":
            continue
        request = PlanRequest(model, preset, Overrides(**overrides))
        label = f"{model}, {machine_name}, {preset}, {setting}"
        found.append((label, plan(hardware, models[model], request)))
    return found


@pytest.fixture(scope="module", params=MODELS)
def grid(
    request: pytest.FixtureRequest, models: dict[str, ModelInfo]
) -> tuple[ModelInfo, list[tuple[str, Plan]]]:
    return models[request.param], plans(models, request.param)


Grid = tuple[ModelInfo, list[tuple[str, Plan]]]


def test_a_plan_that_fits_is_within_every_budget(grid: Grid) -> None:
    _, found = grid
    assert any(plan.verdict != "no" for _, plan in found)
    for label, made in found:
        if made.verdict == "no":
            continue
        for share in made.devices:
            assert share.total_bytes <= share.budget_bytes, (label, share)
        ram = next(share for share in made.devices if share.device == CPU)
        assert made.load_peak_ram_bytes <= ram.budget_bytes, label


def test_a_plan_that_does_not_fit_says_what_is_missing(grid: Grid) -> None:
    _, found = grid
    for label, made in found:
        if made.verdict == "no":
            told = [reason.code for reason in made.reasons]
            assert any(code.startswith(("reason.short", "reason.gpu_only")) for code in told), label


def test_every_module_has_one_device_that_exists(grid: Grid) -> None:
    model, found = grid
    for label, made in found:
        assert [name for name, _ in made.device_map] == [module.name for module in model.modules], label
        named = {share.device for share in made.devices}
        assert {device for _, device in made.device_map} <= named, label
        assert {f"cuda:{index}" for index in made.visible_gpus} == named - {CPU, DISK}, label


def test_layers_run_contiguously(grid: Grid) -> None:
    model, found = grid
    layers = {module.name for module in model.modules if module.kind is ModuleKind.LAYER}
    for label, made in found:
        order = [device for name, device in made.device_map if name in layers]
        runs = [device for device, _ in itertools.groupby(order)]
        assert len(runs) == len(set(runs)), (label, runs)
        # Whatever is faster comes first: GPUs, then RAM, then the disk.
        rank = [2 if device == DISK else 1 if device == CPU else 0 for device in runs]
        assert rank == sorted(rank), (label, runs)


def test_figures_are_consistent(grid: Grid) -> None:
    model, found = grid
    for label, made in found:
        layers = {module.name for module in model.modules if module.kind is ModuleKind.LAYER}
        on_gpu = sum(device.startswith("cuda:") for name, device in made.device_map if name in layers)
        assert made.gpu_layers == on_gpu, label
        assert made.expected.tokens_per_s > 0, label
        assert made.expected.first_token_s > 0, label
        off_gpu = any(device in (CPU, DISK) for _, device in made.device_map)
        quantized = made.precision in ("int8", "nf4")
        assert made.int8_fp32_cpu_offload == (quantized and bool(made.visible_gpus) and off_gpu), label
        assert (made.offload_dir is not None) == any(device == DISK for _, device in made.device_map), label
        assert made.context_tokens <= model.text.max_context, label
        if made.verdict == "fits":
            assert made.expected.tokens_per_s >= 5, label


def test_the_cpu_preset_never_shows_a_gpu(grid: Grid) -> None:
    _, found = grid
    for label, made in found:
        if made.request.preset is Preset.CPU:
            assert made.visible_gpus == (), label


def test_the_same_question_gets_the_same_plan(models: dict[str, ModelInfo]) -> None:
    assert plans(models, "llava-1.5-7b") == plans(models, "llava-1.5-7b")


@pytest.mark.parametrize("precision", ["bf16", "int8", "nf4"])
@pytest.mark.parametrize("mode", ["compute", "stream"])
def test_no_layer_more_would_fit(llava: ModelInfo, precision: str, mode: Any) -> None:
    """Least waste: on cards of 4 to 15 GB the chosen layers fit, and one more, set by hand, does not."""
    compared = 0
    for total in range(4, 16):
        hardware = machine(gpu(0, total=total), ram=64)
        chosen = Overrides(precision=precision, cpu_layers_mode=mode)
        made = plan(hardware, llava, PlanRequest("m", Preset.LOW, chosen))
        if not 0 < made.gpu_layers < llava.layers - 1:
            continue
        compared += 1
        same, more = (replace(chosen, gpu_layers=made.gpu_layers + extra) for extra in (0, 1))
        assert plan(hardware, llava, PlanRequest("m", Preset.LOW, same)).verdict != "no", total
        assert plan(hardware, llava, PlanRequest("m", Preset.LOW, more)).verdict == "no", total
    assert compared >= 1
