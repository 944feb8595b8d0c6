"""What is left out to be quick is nothing that could have run."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.models.identify import identify
from backends.models.types import ModelInfo
from backends.placement.candidates import candidates
from backends.placement.estimate import Load
from backends.placement.planner import question
from backends.placement.precision import Precision
from backends.placement.types import PlanRequest
from backends.presets import Preset
from tests.support import checkpoints
from tests.support.machines import gpu, machine, rtx_2060, rtx_2080_ti

MACHINES = {
    "no GPU, little of everything": machine(ram=4, available=2, disk=1),
    "2 GB card": machine(gpu(0, total=2, free=1.8), ram=16),
    "6 GB card": machine(rtx_2060(), ram=10),
    "4 x 11 GB, full": machine(*(rtx_2080_ti(index, free=2.5) for index in range(4)), ram=12),
    "24 GB card": machine(gpu(0), ram=64),
    "full cards beside an empty one": machine(gpu(0, free=0.2), gpu(1, free=6), gpu(2, free=0), ram=16),
    "four cards, hardly any RAM": machine(*(gpu(index) for index in range(4)), ram=4, available=2.5),
    "two generations, hardly any RAM": machine(gpu(0), rtx_2080_ti(1), ram=8, available=2.8),
    "Windows with little to promise": machine(gpu(0, total=8, free=7.5), ram=16, os="windows", commit=18),
}


@pytest.mark.parametrize("name", ["llava-1.5-7b", "qwen2.5-vl-7b", "text-6b", "starter"])
@pytest.mark.parametrize("hardware", MACHINES.values(), ids=MACHINES)
def test_what_is_too_heavy_by_its_weights_alone_never_fits(
    models: dict[str, ModelInfo], name: str, hardware: object
) -> None:
    case = question(hardware, models[name], PlanRequest("m", Preset.AUTO))  # type: ignore[arg-type]

    all_of_them, hopeful = candidates(case), candidates(case, hopeful=True)

    assert [one for one in hopeful if one.outcome.fits] == [one for one in all_of_them if one.outcome.fits]


@pytest.mark.parametrize("available", [3, 8, 14, 20, 40])
def test_a_lora_that_can_not_be_loaded_is_left_out_and_no_other(available: float, tmp_path: Path) -> None:
    checkpoints.llava_15_7b(tmp_path / "llava-1.5-7b-hf")
    model = identify(checkpoints.lora(tmp_path / "my LoRA", "llava-hf/llava-1.5-7b-hf"))
    hardware = machine(gpu(0), gpu(1), ram=48, available=available)
    case = question(hardware, model, PlanRequest("m", Preset.AUTO))

    all_of_them, hopeful = candidates(case), candidates(case, hopeful=True)

    fitting = [one for one in all_of_them if one.outcome.fits]
    assert [one for one in hopeful if one.outcome.fits] == fitting
    assert bool(fitting) == (available > 3)


def test_modules_that_are_alike_add_up_as_one_by_one(models: dict[str, ModelInfo]) -> None:
    half = Precision("bf16", "bfloat16")
    for name, model in models.items():
        case = question(machine(gpu(0)), model, PlanRequest("m", Preset.AUTO))
        singly, together = Load(), Load()
        for module in model.modules:
            singly.add(module, half.module_bytes(module, quantize=False), half, quantized=False)
        for module, count in zip(case.distinct, case.amounts, strict=True):
            nbytes = half.module_bytes(module, quantize=False)
            together.add(module, nbytes, half, quantized=False, count=count)
        assert together == singly, name
        assert [case.distinct[place].parameters for place in case.places] == [
            module.parameters for module in model.modules
        ]
