"""Which other plans a loaded model can be moved to, and what stands in the way of the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.hardware.types import HardwareSnapshot
from backends.models.identify import identify
from backends.models.types import Companions, ModelInfo
from backends.placement import planner
from backends.placement.moving import Move, Stuck, ordered, room, same_places, why_no_room, why_reload
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from backends.text import human_bytes
from tests.support import checkpoints, machines
from tests.support.plans import make_plan

LAYERS = ("embed", "layers.0", "layers.1", "head")


def on(*devices: str, precision: str = "fp16", path: str = "m", gpus: tuple[int, ...] = (0, 1)) -> Plan:
    places = dict(zip(LAYERS, devices, strict=True))
    return make_plan(path, device_map=places, precision=precision, visible_gpus=gpus)


RAM = on("cpu", "cpu", "cpu", "cpu")
HYBRID = on("cuda:0", "cuda:0", "cpu", "cpu")
ON_DISK = replace(on("cuda:0", "cuda:0", "disk", "cpu"), offload_dir="/a")
GIB = 2**30


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (RAM, RAM, None),
        (RAM, HYBRID, None),
        (HYBRID, on("cuda:1", "cuda:1", "disk", "cpu"), None),
        (HYBRID, on("cuda:1", "cuda:1", "cpu", "cpu", path="other"), "move.other_model"),
        (HYBRID, replace(HYBRID, companions=Companions(template="v0")), "move.companions"),
        (HYBRID, replace(HYBRID, precision="int8"), "move.precision"),
        (HYBRID, replace(HYBRID, compute_dtype="bfloat16"), "move.precision"),
        (on("cpu", "cpu", "cpu", "cpu", gpus=()), HYBRID, "move.hidden_gpu"),
        (HYBRID, on("cuda:2", "cuda:2", "cpu", "cpu"), "move.hidden_gpu"),
        (
            on("cuda:0", "cuda:0", "cuda:0", "cuda:0", precision="int8"),
            on("cuda:0", "cuda:0", "cuda:1", "cuda:1", precision="int8"),
            None,
        ),
        (
            on("cuda:0", "cuda:0", "cuda:0", "cuda:0", precision="int8"),
            on("cuda:0", "cuda:0", "cuda:0", "cpu", precision="int8"),
            None,
        ),
        (
            on("cuda:0", "cuda:0", "cuda:0", "cuda:0", precision="int8"),
            on("cuda:0", "cuda:0", "cpu", "cpu", precision="int8"),
            "move.width",
        ),
        (
            on("cpu", "cpu", "cpu", "cpu", precision="nf4"),
            on("cpu", "cpu", "disk", "cpu", precision="nf4"),
            "move.width",
        ),
        (
            on("cuda:0", "cuda:0", "cpu", "cpu", precision="nf4"),
            on("cuda:0", "cuda:0", "disk", "cpu", precision="nf4"),
            None,
        ),
        (HYBRID, RAM, None),
        (HYBRID, replace(RAM, request=PlanRequest("m", Preset.CPU)), "move.cpu_only"),
        (on(*["cpu"] * 4, gpus=()), replace(RAM, request=PlanRequest("m", Preset.CPU)), None),
        (HYBRID, ON_DISK, None),
        (ON_DISK, replace(ON_DISK, offload_dir="/b"), "move.offload_dir"),
        (HYBRID, replace(HYBRID, context_tokens=9000, images=3), None),
    ],
    ids=[
        "nothing changes",
        "to a GPU",
        "from one GPU to another, and to the disk",
        "another model",
        "another conversation format",
        "another precision",
        "another dtype beside the quantized layers",
        "a process without GPUs",
        "a GPU that was not chosen",
        "8-bit layers between GPUs",
        "a head is never quantized",
        "an 8-bit layer does not become a full one",
        "quantized layers stay off the disk",
        "full layers beside 4-bit ones may go there",
        "no layer on the GPU, by hand",
        "CPU only hides the GPU",
        "CPU only where no GPU was seen",
        "to the disk",
        "another folder on the disk",
        "another context",
    ],
)
def test_what_stands_in_the_way(old: Plan, new: Plan, code: str | None) -> None:
    found = why_reload(old, new)
    assert (found and found.code) == code


def test_a_loaded_whole_covers_its_layers() -> None:
    whole = make_plan("m", device_map={"": "cuda:0"}, precision="int8", visible_gpus=(0, 1))
    assert why_reload(whole, on("cuda:0", "cuda:1", "cuda:1", "cuda:1", precision="int8")) is None
    assert why_reload(whole, on("cuda:0", "cuda:0", "cpu", "cpu", precision="int8")) is not None


def going(name: str, source: str, target: str, nbytes: int) -> Move:
    return Move(name, source, target, nbytes)


@pytest.mark.parametrize(
    ("moves", "free", "expected"),
    [
        ([], {}, []),
        ([going("a", "cpu", "cuda:0", 5)], {"cuda:0": 5}, ["a"]),
        (
            [going("a", "cpu", "cuda:0", 5), going("b", "cuda:0", "cpu", 5)],
            {"cuda:0": 0, "cpu": 5},
            ["b", "a"],
        ),
        ([going("a", "disk", "cpu", 5), going("b", "cpu", "disk", 5)], {"cpu": 0}, ["b", "a"]),
        (
            [going("a", "cpu", "cuda:0", 4), going("b", "cuda:0", "cpu", 4), going("c", "cpu", "disk", 4)],
            {"cpu": 0, "cuda:0": 0},
            ["c", "b", "a"],
        ),
    ],
    ids=[
        "nothing to do",
        "exactly enough room",
        "what leaves makes room for what comes",
        "the disk takes first",
        "a chain of three",
    ],
)
def test_the_order_in_which_everything_fits(
    moves: list[Move], free: dict[str, int], expected: list[str]
) -> None:
    order = ordered(moves, free)
    assert not isinstance(order, Stuck)
    assert [each.name for each in order] == expected


def test_what_is_in_the_way_is_told_with_figures() -> None:
    swap = [going("a", "cpu", "cuda:0", 5), going("b", "cuda:0", "cpu", 5), going("c", "cpu", "cuda:0", 2)]
    assert ordered(swap, {"cpu": 3, "cuda:0": 1}) == Stuck("cuda:0", 7, 1)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    return identify(checkpoints.llava_15_7b(tmp_path_factory.mktemp("models") / "llava"))


def machine(vram: float, ram: float) -> HardwareSnapshot:
    return machines.machine(machines.gpu(0, free=vram), ram=64, available=ram)


def planned(llava: ModelInfo, gpu_layers: int) -> Plan:
    overrides = Overrides(gpu_layers=gpu_layers, precision="fp16", cpu_layers_mode="compute")
    return planner.plan(machine(23, 60), llava, PlanRequest("llava", Preset.CUSTOM, overrides))


@pytest.mark.parametrize(
    ("before", "after", "vram", "ram", "missing"),
    [
        (32, 20, 1, 6, None),
        (32, 20, 1, 4, "cpu"),
        (20, 32, 6, 1, None),
        (20, 32, 4, 1, "cuda:0"),
        (20, 20, 0, 0, None),
    ],
    ids=[
        "12 layers and the head (4.7 GB) to RAM that has room",
        "to RAM that has not, whatever the GPU gets back",
        "to a GPU that has room, whatever RAM has",
        "to a GPU that has not",
        "nothing moves, so nothing is needed",
    ],
)
def test_both_places_must_have_room_on_the_way(  # noqa: PLR0917 - a table
    llava: ModelInfo, before: int, after: int, vram: float, ram: float, missing: str | None
) -> None:
    free = room(machine(vram + 0.1, ram + 0.6))
    found = why_no_room(planned(llava, before), planned(llava, after), llava, free)
    if missing is None:
        assert found is None
        return
    was, will = dict(planned(llava, before).device_map), dict(planned(llava, after).device_map)
    coming = sum(module.parameters * 2 for module in llava.modules if was[module.name] != will[module.name])
    spoken = {"cpu": "main memory", "cuda:0": "NVIDIA GeForce RTX 3090 (GPU 0)"}[missing]
    lacking = human_bytes(coming - free[missing])
    assert str(found) == f"On the way, {lacking} of {spoken} would be missing."


def test_room_keeps_a_little_free_and_is_never_negative() -> None:
    free = room(machine(1, 0.1))
    assert free["cuda:0"] == GIB - (64 << 20)
    assert free["cpu"] == 0
    assert free["disk"] > 0


def test_maps_by_other_names_are_left_to_the_engine(llava: ModelInfo) -> None:
    whole = replace(planned(llava, 32), device_map=(("", "cuda:0"),))
    assert why_no_room(whole, planned(llava, 20), llava, {"cpu": 0}) is None


def test_places_are_the_same_where_only_limits_differ(llava: ModelInfo) -> None:
    plan = planned(llava, 20)
    assert same_places(plan, replace(plan, context_tokens=9000))
    assert not same_places(plan, replace(plan, cpu_layers_mode="stream"))
    assert not same_places(plan, planned(llava, 19))
