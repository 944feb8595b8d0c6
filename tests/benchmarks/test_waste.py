"""The plan's layers on GPUs are the most that fit, on a part of the grid that the benchmark searches."""

from __future__ import annotations

import pytest

from backends.models.identify import identify
from backends.presets import Preset
from benchmarks.waste import MODELS, PAIRS_GOAL, Found, machines, rows, search

GRID = ("4 GB", "6 GB", "8 GB, a part taken", "6 + 4 GB")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    folder = tmp_path_factory.mktemp("waste")
    models = {name: identify(MODELS[name](folder / name)) for name in ("LLaVA-1.5-7B", "ChatGLM3-6B")}
    return list(search(models, {name: machines()[name] for name in GRID}, (Preset.MID, Preset.LOW)))


def test_never_over_and_at_most_one_under(found: list[Found]) -> None:
    partly = [one for one in found if 0 < one.planned < 28]
    assert len(partly) >= 6
    for one in found:
        assert one.most - 1 <= one.planned <= one.most, one


def test_the_whole_grid_is_large_enough() -> None:
    assert len(MODELS) * len(machines()) >= PAIRS_GOAL


def test_the_rows_count_what_was_found() -> None:
    def one(planned: int, most: int, machine: str = "m") -> Found:
        return Found("x", machine, Preset.LOW, "compute", planned, most, 1.0)

    said = {row.measure: row.value for row in rows([one(5, 5), one(4, 5, "n"), one(3, 5), one(6, 5)])}

    assert said["Plans with more layers on GPUs than fit"] == "1"
    assert said["Plans with one layer fewer"] == "1"
    assert said["Plans with two or more layers fewer"] == "1"
    assert said["Pairs of model and machine"] == "2 (4 plans)"
