"""The way down when memory ran out: which steps are offered, in which order, and what they say they cost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backends.hardware.describe import read_file
from backends.hardware.types import HardwareSnapshot
from backends.models.types import ModelInfo
from backends.placement.case import DISK
from backends.placement.ladder import Rung, Shortage, Step, held, nothing_left, steps
from backends.placement.planner import plan
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from tests.support.machines import GIB, MIB, gpu, machine, rtx_2080_ti, rtx_4060

FILES = sorted((Path(__file__).resolve().parents[2] / "hardware").glob("*.json"))
ONE = machine(gpu(0), ram=64)
TWO = machine(rtx_2080_ti(0), rtx_2080_ti(1), ram=64)
SMALL_CARD = machine(rtx_4060(), ram=64)
SLOW_RAM = machine(ram=64)


def judge(hardware: HardwareSnapshot, model: ModelInfo) -> Callable[[PlanRequest], Plan]:
    return partial(plan, hardware, model)


def climb(
    hardware: HardwareSnapshot, model: ModelInfo, shortage: Shortage, preset: str = "auto", **overrides: Any
) -> tuple[Plan, list[Step]]:
    failed = plan(hardware, model, PlanRequest("m", Preset(preset), Overrides(**overrides)))
    return failed, list(steps(failed, shortage, model, judge(hardware, model)))


def rungs(found: list[Step]) -> list[str]:
    return [step.rung.value for step in found]


def lacking(mib: int, device: str = "cuda:0", when: Any = "chat", **more: int) -> Shortage:
    return Shortage(device, when, needed_bytes=mib * MIB, free_bytes=0, **more)


@pytest.mark.parametrize(
    ("hardware", "model", "preset", "shortage", "expected"),
    [
        pytest.param(
            ONE, "llava-1.5-7b", "auto", lacking(200), ["context", "layers", "int8", "nf4", "cpu"],
            id="a fixed family skips the picture's detail",
        ),
        pytest.param(
            ONE, "qwen2.5-vl-7b", "auto", lacking(100, when="image"),
            ["context", "detail", "layers", "int8", "nf4", "cpu"],
            id="a family that scales pictures, at the first picture",
        ),
        pytest.param(
            ONE, "llava-1.5-7b", "auto", lacking(200, when="load"), ["layers", "int8", "nf4", "cpu"],
            id="at load there is no cache yet: a shorter answer brings nothing",
        ),
        pytest.param(
            ONE, "llava-1.5-7b", "auto", lacking(2000), ["layers", "int8", "nf4", "cpu"],
            id="too much is missing for a shorter answer",
        ),
        pytest.param(
            ONE, "llava-1.5-7b", "auto", lacking(8500), ["layers", "int8", "nf4", "cpu"],
            id="8-bit alone saves too little: with fewer layers",
        ),
        pytest.param(
            ONE, "llava-1.5-7b", "high", lacking(200), ["context", "layers", "int8", "nf4", "cpu"],
            id="High, too, goes on to quantization when there is no other way",
        ),
        pytest.param(
            ONE, "llava-1.5-7b", "mid", lacking(300, when="load"), ["layers", "nf4", "cpu"],
            id="Balanced is 8-bit already",
        ),
        pytest.param(
            SMALL_CARD, "llava-1.5-7b", "low", lacking(300, when="load"), ["layers", "cpu"],
            id="Low is 4-bit already",
        ),
        pytest.param(
            TWO, "llava-1.5-7b", "auto", lacking(100), ["context", "layers", "int8", "nf4", "cpu"],
            id="two cards: layers move to the other one",
        ),
        pytest.param(
            SLOW_RAM, "llava-1.5-7b", "cpu", lacking(200, "cpu"),
            ["context", "half", "int8", "nf4", "disk"],
            id="RAM: 16-bit first, the disk last, no GPU layers",
        ),
        pytest.param(
            machine(ram=32, features=("avx2", "avx512_bf16")), "text-6b", "cpu", lacking(50, "cpu"),
            ["context", "int8", "nf4", "disk"],
            id="RAM, a text model that is in 16 bits already",
        ),
    ],
)  # fmt: skip
def test_the_steps(  # noqa: PLR0917 - the columns of the table above
    models: dict[str, ModelInfo],
    hardware: HardwareSnapshot,
    model: str,
    preset: str,
    shortage: Shortage,
    expected: list[str],
) -> None:
    _, found = climb(hardware, models[model], shortage, preset)

    assert rungs(found) == expected


@pytest.mark.parametrize("when", ["load", "chat"])
@pytest.mark.parametrize("model", ["llava-1.5-7b", "qwen2.5-vl-7b"])
@pytest.mark.parametrize("preset", ["auto", "mid"])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_step_fits_helps_and_keeps_what_it_does_not_name(
    models: dict[str, ModelInfo], file: Path, preset: str, model: str, when: Any
) -> None:
    hardware = read_file(file)
    failed = plan(hardware, models[model], PlanRequest("m", Preset(preset)))
    if failed.verdict == "no":
        pytest.skip("nothing was loaded here")
    for share in failed.devices:
        if share.device == DISK or not share.weights_bytes:
            continue
        shortage = Shortage(share.device, when, 64 * MIB, 0)
        found = list(steps(failed, shortage, models[model], judge(hardware, models[model])))
        order = [list(Rung).index(step.rung) for step in found]
        assert order == sorted(set(order))
        for step in found:
            assert step.plan.verdict != "no"
            saved = held(failed, share.device, when) - held(step.plan, share.device, when)
            assert saved == step.freed_bytes >= 64 * MIB
            assert step.plan == plan(hardware, models[model], step.request)
            assert step.request.model == "m"
            assert all(str(cost) for cost in step.costs)
            if step.rung in (Rung.CONTEXT, Rung.DETAIL, Rung.LAYERS):
                assert step.plan.precision == failed.precision
            if step.rung is Rung.CPU:
                assert not step.plan.visible_gpus


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_falling_all_the_way_ends_and_never_repeats(models: dict[str, ModelInfo], file: Path) -> None:
    """However often memory runs out, each step is another request, until there is none."""
    hardware, model = read_file(file), models["qwen2.5-vl-7b"]
    current = plan(hardware, model, PlanRequest("m"))
    tried: dict[PlanRequest, Rung | None] = {current.request: None}
    for _ in range(15):
        device = next(share.device for share in current.devices if share.weights_bytes)
        shortage = Shortage(device, "chat", 64 * MIB, 0)
        step = next(steps(current, shortage, model, judge(hardware, model), tried), None)
        if step is None:
            break
        assert step.request not in tried
        tried[step.request] = step.rung
        current = step.plan
    else:
        pytest.fail("the ladder has no end")
    assert "nothing more to try" in str(nothing_left(current, shortage))


def test_what_was_tried_is_not_offered_again(llava: ModelInfo) -> None:
    failed, found = climb(ONE, llava, lacking(200))
    tried = {step.request: step.rung for step in found}
    again = list(steps(failed, lacking(200), llava, judge(ONE, llava), tried))

    offered = {step.request for step in found}
    assert not offered & {step.request for step in again}


def test_a_shorter_answer_leaves_the_conversation_whole(llava: ModelInfo) -> None:
    _, found = climb(ONE, llava, lacking(50, prompt_tokens=1500))
    assert found[0].rung is Rung.CONTEXT
    assert found[0].plan.context_tokens >= 1500 + 256

    _, found = climb(ONE, llava, lacking(50, prompt_tokens=1990))
    assert Rung.CONTEXT not in [step.rung for step in found]


def test_less_detail_shortens_the_context_by_what_it_saves(models: dict[str, ModelInfo]) -> None:
    failed, found = climb(ONE, models["qwen2.5-vl-7b"], lacking(100, when="image"))
    detail = next(step for step in found if step.rung is Rung.DETAIL).plan

    assert detail.image_tokens <= failed.image_tokens // 2
    saved = failed.image_tokens - detail.image_tokens
    assert detail.context_tokens == failed.context_tokens - saved


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("auto", {"layers": "auto", "int8": "auto", "nf4": "auto", "cpu": "cpu"}),
        ("high", {"layers": "custom", "int8": "custom", "nf4": "custom", "cpu": "cpu"}),
        ("mid", {"layers": "mid", "nf4": "custom", "cpu": "cpu"}),
        ("custom", {"layers": "custom", "int8": "custom", "nf4": "custom", "cpu": "cpu"}),
    ],
)
def test_a_preset_keeps_its_name_only_where_it_keeps_its_meaning(
    llava: ModelInfo, preset: str, expected: dict[str, str]
) -> None:
    _, found = climb(ONE, llava, lacking(300, when="load"), preset)
    _, shorter = climb(ONE, llava, lacking(20), preset)

    assert {step.rung.value: step.request.preset.value for step in found} == expected
    assert shorter[0].rung is Rung.CONTEXT
    assert shorter[0].request.preset.value == preset


def test_as_many_layers_stay_as_the_missing_bytes_allow(llava: ModelInfo) -> None:
    failed, found = climb(ONE, llava, lacking(3000))
    layers = next(step for step in found if step.rung is Rung.LAYERS)

    assert 20 <= layers.plan.gpu_layers < failed.gpu_layers
    assert 3000 * MIB <= layers.freed_bytes <= 4500 * MIB


def test_the_card_that_ran_out_gets_fewer_layers_and_the_other_more(llava: ModelInfo) -> None:
    failed, found = climb(TWO, llava, lacking(300, "cuda:1"))
    layers = next(step for step in found if step.rung is Rung.LAYERS).plan

    def on(device: str, plan_: Plan) -> int:
        return sum(place == device and ".layers." in name for name, place in plan_.device_map)

    assert on("cuda:1", layers) < on("cuda:1", failed)
    assert on("cuda:0", layers) + on("cuda:1", layers) == 32


def test_a_map_by_hand_gives_way_only_where_layers_move(llava: ModelInfo) -> None:
    by_hand = (("", "cuda:0"),)
    _, found = climb(ONE, llava, lacking(200), "custom", device_map=by_hand)

    kept = {step.rung: step.request.overrides.device_map for step in found}
    assert kept[Rung.CONTEXT] == by_hand
    assert kept[Rung.LAYERS] is None
    assert kept[Rung.CPU] is None


def test_settings_of_the_gpu_do_not_survive_on_the_cpu(llava: ModelInfo) -> None:
    limits = (("cuda:0", 20 * GIB), ("cpu", 40 * GIB))
    _, found = climb(
        ONE, llava, lacking(200), "custom", gpus=(0,), gpu_layers=32, max_memory=limits, context_tokens=1500
    )
    last = found[-1]

    assert last.rung is Rung.CPU
    assert last.request == PlanRequest(
        "m", Preset.CPU, Overrides(max_memory=(("cpu", 40 * GIB),), context_tokens=1500)
    )


def test_the_costs_in_words_and_figures(models: dict[str, ModelInfo]) -> None:
    failed, found = climb(ONE, models["qwen2.5-vl-7b"], lacking(100, when="image"))
    said = {step.rung.value: " ".join(str(cost) for cost in step.costs) for step in found}
    names = {step.rung.value: str(step.name) for step in found}

    assert names["context"] == "Keep less room for the answer"
    assert f"instead of {failed.context_tokens:,}" in said["context"]
    assert "small print may be missed" in said["detail"]
    assert f"instead of {failed.image_tokens:,}" in said["detail"]
    assert "instead of 28 of the 28 layers are on NVIDIA GeForce RTX 3090 (GPU 0)" in said["layers"]
    assert f"tokens/s instead of {failed.expected.tokens_per_s:.1f}" in said["layers"]
    assert "int8 instead of bf16: answers may differ a little." in said["int8"]
    assert "nf4 instead of bf16: answers get rougher." in said["nf4"]
    assert "It needs 0 B instead of" in said["cpu"]
    assert "The first word comes after about" in said["cpu"]


def test_nothing_helps_a_full_machine(llava: ModelInfo) -> None:
    tight = machine(ram=32, available=18, disk=1)
    failed, found = climb(tight, llava, lacking(14_000, "cpu"))

    assert failed.verdict != "no"
    assert found == []
    assert "Close other programs, or choose a smaller model." in str(nothing_left(failed, lacking(1, "cpu")))
    gone = str(nothing_left(plan(ONE, llava, PlanRequest("m")), lacking(1)))
    assert "other programs that use NVIDIA GeForce RTX 3090 (GPU 0)" in gone


def test_settings_that_the_model_does_not_have_are_passed_over(llava: ModelInfo) -> None:
    """A judge that refuses a request leaves that step out."""
    failed = plan(ONE, llava, PlanRequest("m", Preset.AUTO, Overrides(context_tokens=1500, images=2)))
    found = list(steps(failed, lacking(100), llava, judge(ONE, llava)))

    assert found
    assert all(step.plan.images == 2 for step in found)
