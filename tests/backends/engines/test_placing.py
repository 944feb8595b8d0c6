"""What rests where, what runs where, and in which order modules change places."""

from __future__ import annotations

import pytest

from backends.engines.placing import (
    Move,
    Stuck,
    first_device,
    needs_hooks,
    ordered,
    runs_alike,
    units,
)
from backends.placement.types import CpuLayersMode


@pytest.mark.parametrize(
    ("places", "mode", "runs"),
    [
        (("cpu", "cpu"), None, ("cpu", "cpu")),
        (("cuda:0", "cpu"), "compute", ("cuda:0", "cpu")),
        (("cuda:0", "cpu"), None, ("cuda:0", "cpu")),
        (("cuda:0", "cpu"), "stream", ("cuda:0", "cuda:0")),
        (("cuda:1", "cuda:0", "cpu"), "stream", ("cuda:1", "cuda:0", "cuda:1")),
        (("cpu", "disk"), None, ("cpu", "cpu")),
        (("cuda:0", "cpu", "disk"), "compute", ("cuda:0", "cpu", "cuda:0")),
        (("cuda:0", "cpu", "disk"), "stream", ("cuda:0", "cuda:0", "cuda:0")),
        (("cpu", "cuda:0"), "compute", ("cpu", "cuda:0")),
    ],
    ids=[
        "RAM alone",
        "compute: RAM runs on the CPU",
        "nothing said is compute",
        "stream: RAM visits the GPU",
        "stream: the first GPU of the map, whatever its number",
        "the disk visits the CPU",
        "the disk visits the GPU in either mode",
        "everything visits",
        "the CPU may come first",
    ],
)
def test_where_modules_run(
    places: tuple[str, ...], mode: CpuLayersMode | None, runs: tuple[str, ...]
) -> None:
    placed = units([(f"layers.{index}", place) for index, place in enumerate(places)], mode)
    assert tuple(unit.rests for unit in placed) == places
    assert tuple(unit.runs for unit in placed) == runs
    assert [unit.visits for unit in placed] == [rest != run for rest, run in zip(places, runs, strict=True)]


def test_inputs_arrive_where_the_first_gpu_runs() -> None:
    assert first_device(units([("a", "cpu"), ("b", "cuda:1"), ("c", "cuda:0")], "compute")) == "cuda:1"
    assert first_device(units([("a", "cpu"), ("b", "disk")], None)) == "cpu"


@pytest.mark.parametrize(
    ("places", "mode", "expected"),
    [
        (("cuda:0", "cuda:0"), None, False),
        (("cpu", "cpu"), None, False),
        (("cuda:0", "cuda:1"), None, True),
        (("cuda:0", "cpu"), "stream", True),
        (("disk", "disk"), None, True),
    ],
)
def test_when_anything_is_carried_at_all(
    places: tuple[str, ...], mode: CpuLayersMode | None, expected: bool
) -> None:
    assert needs_hooks(units([(str(index), place) for index, place in enumerate(places)], mode)) == expected


LAYERS = ("model.layers.1", "model.layers.10")


@pytest.mark.parametrize(
    ("before", "after", "mode", "alike"),
    [
        ({"": "cpu"}, dict.fromkeys(LAYERS, "cpu"), None, True),
        ({"": "cpu"}, {LAYERS[0]: "cuda:0", LAYERS[1]: "cpu"}, "compute", False),
        ({"": "cpu", LAYERS[1]: "disk"}, {"": "cpu", LAYERS[0]: "disk"}, None, False),
        ({"": "cuda:0", LAYERS[1]: "cpu"}, {"": "cuda:0", LAYERS[1]: "disk"}, "stream", True),
        ({"": "cuda:0"}, {"": "cuda:1"}, None, False),
    ],
    ids=[
        "the same in smaller units",
        "a layer runs elsewhere",
        "the CPU reads weights from elsewhere",
        "a GPU is brought weights from elsewhere",
        "another GPU",
    ],
)
def test_which_rearrangements_keep_every_bit(
    before: dict[str, str], after: dict[str, str], mode: CpuLayersMode | None, alike: bool
) -> None:
    assert runs_alike(units(before.items(), mode), units(after.items(), mode), LAYERS) == alike


def test_a_longer_path_tells_more_than_a_shorter_one() -> None:
    whole = units([("", "cpu")], None)
    other = units([("model.layers.1", "cuda:0"), ("model.layers.10", "cpu")], "compute")
    assert runs_alike(whole, other, ["model.layers.10"])


def move(name: str, source: str, target: str, nbytes: int) -> Move:
    return Move(name, source, target, nbytes)


@pytest.mark.parametrize(
    ("moves", "free", "expected"),
    [
        ([], {}, []),
        ([move("a", "cpu", "cuda:0", 5)], {"cuda:0": 5}, ["a"]),
        ([move("a", "cpu", "cuda:0", 5), move("b", "cuda:0", "cpu", 5)], {"cuda:0": 0, "cpu": 5}, ["b", "a"]),
        ([move("a", "disk", "cpu", 5), move("b", "cpu", "disk", 5)], {"cpu": 0}, ["b", "a"]),
        (
            [move("a", "cpu", "cuda:0", 4), move("b", "cuda:0", "cpu", 4), move("c", "cpu", "disk", 4)],
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
    swap = [move("a", "cpu", "cuda:0", 5), move("b", "cuda:0", "cpu", 5), move("c", "cpu", "cuda:0", 2)]
    assert ordered(swap, {"cpu": 3, "cuda:0": 1}) == Stuck("cuda:0", 7, 1)
