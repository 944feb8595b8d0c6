"""A GPU that would hold no layer: the model is not called quantized, and the CPU alone is compared fairly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.hardware.describe import read_file
from backends.models.types import ModelInfo
from backends.placement.planner import plan
from backends.placement.precision import quality
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from tests.support.machines import GIB, gpu, machine, rtx_2060

HARDWARE = Path(__file__).parents[2] / "hardware"
BF16 = ("avx2", "avx512_bf16")


def decide(model: ModelInfo, hardware: Any, preset: str = "mid", **overrides: Any) -> Plan:
    return plan(hardware, model, PlanRequest("m", Preset(preset), Overrides(**overrides)))


def tiny_card(**more: Any) -> Any:
    """2 GB: room for the CUDA context and an embedding, for no layer."""
    return machine(gpu(0, "NVIDIA GeForce MX450", 2, 1.8, memory_gbps=80.0), **{"ram": 16, **more})


@pytest.mark.parametrize("preset", list(Preset))
def test_no_layer_on_the_gpu_is_never_called_quantized(models: dict[str, ModelInfo], preset: Preset) -> None:
    machines = [
        tiny_card(ram=ram, features=features) for ram in (16, 24, 64) for features in (("avx2",), BF16)
    ]
    machines.append(read_file(HARDWARE / "small_windows_4gb.json"))
    for hardware in machines:
        for name, model in models.items():
            found = decide(model, hardware, preset.value)
            if found.gpu_layers == 0 and found.visible_gpus:
                assert quality(found.precision) == 0, (name, hardware)
            assert not [reason for reason in found.reasons if "saves 0 B" in str(reason)]


def test_where_no_layer_fits_the_cpu_keeps_full_precision(models: dict[str, ModelInfo]) -> None:
    hardware = tiny_card(ram=24, features=("avx2", "amx_bf16"))

    found = decide(models["text-6b"], hardware)

    assert (found.precision, found.gpu_layers, found.visible_gpus) == ("bf16", 0, ())
    assert found.verdict != "no"
    assert not [other for other in found.alternatives if other.precision == "int8" and other.verdict != "no"]


@pytest.mark.parametrize("preset", ["auto", "mid", "low", "cpu"])
@pytest.mark.parametrize("features", [("avx2",), BF16], ids=["without bf16", "with bf16"])
@pytest.mark.parametrize("cards", [(gpu(0, total=2, free=1.8),), (gpu(0, total=4, free=3.2),), (rtx_2060(),)])
def test_more_ram_never_makes_it_answer_later_in_the_same_precision(
    models: dict[str, ModelInfo], preset: str, features: Any, cards: Any
) -> None:
    for name in ("text-6b", "qwen2.5-vl-7b"):
        before: Plan | None = None
        for ram in range(8, 33, 2):
            found = decide(models[name], machine(*cards, ram=ram, features=features), preset)
            if before is not None and before.verdict != "no":
                assert found.verdict != "no", (name, ram)
                # The disk is the last resort, also where what is read from it would answer sooner.
                if before.offload_dir is None and quality(found.precision) >= quality(before.precision):
                    assert found.expected.answer_s <= 1.1 * before.expected.answer_s, (name, ram)
            before = found


def test_a_gpu_without_layers_is_no_answer_where_the_cpu_alone_is_sooner(llava: ModelInfo) -> None:
    found = decide(llava, tiny_card(ram=64, features=BF16), "auto")

    assert found.visible_gpus == ()
    assert "reason.cpu_chosen" in {reason.code for reason in found.reasons}


def test_what_a_preset_is_not_meant_for_is_not_said_to_bring_nothing(llava: ModelInfo) -> None:
    """Balanced keeps to the GPU where it holds layers; that the CPU alone answers sooner is said."""
    card = gpu(0, "NVIDIA GeForce GTX 1650", 4, 3.2, compute_capability=(7, 5), tflops_bf16=6.0)
    hardware = machine(card, ram=32, os="windows", commit=40)

    found = decide(llava, hardware)
    alone = next(other for other in found.alternatives if other.precision == "bf16")

    assert (found.precision, alone.verdict) == ("int8", "slow")
    assert "instead of 6 min, but this preset's own way comes first." in str(alone.why_not)


def test_a_layout_is_named_once(models: dict[str, ModelInfo]) -> None:
    """What was chosen is not its own alternative."""
    for cards in ((), (gpu(0, total=4, free=0.1),), (gpu(0, free=0.5),)):
        for preset in ("low", "mid", "auto"):
            for available in (5, 16, 60):
                found = decide(models["text-6b"], machine(*cards, ram=64, available=available), preset)
                rates = {
                    other.tokens_per_s for other in found.alternatives if other.precision == found.precision
                }
                assert found.expected.tokens_per_s not in rates, (cards, preset, available)


def test_layers_by_hand_are_quantized_where_they_lie(llava: ModelInfo) -> None:
    limited = machine(gpu(0), ram=64)
    limited = replace(limited, ram=replace(limited.ram, available_bytes=50 * GIB))

    found = decide(llava, limited, "custom", gpu_layers=1, precision="int8")

    assert (found.precision, found.gpu_layers) == ("int8", 1)
