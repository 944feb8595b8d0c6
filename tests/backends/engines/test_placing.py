"""What rests where, and what runs where."""

from __future__ import annotations

import pytest

from backends.engines.placing import first_device, needs_hooks, runs_alike, units
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
