"""Layers are shared in proportion and in order."""

from __future__ import annotations

import pytest

from backends.models.types import Module, ModuleKind
from backends.placement.split import balanced_counts, counts_to_slots


@pytest.mark.parametrize(
    ("layers", "room", "counts"),
    [
        pytest.param(28, [100, 100], [14, 14], id="halves"),
        pytest.param(33, [100] * 8, [4, 4, 4, 4, 5, 4, 4, 4], id="an odd number over eight"),
        pytest.param(32, [100, 300], [8, 24], id="a quarter and three quarters"),
        pytest.param(10, [0, 100], [0, 10], id="a full first device"),
        pytest.param(10, [-5, 100], [0, 10], id="an overfull first device"),
        pytest.param(4, [0, 0], [2, 2], id="no room anywhere: shared all the same"),
    ],
)
def test_shares(layers: int, room: list[int], counts: list[int]) -> None:
    found = balanced_counts(10, layers, room)

    assert sum(found) == layers
    assert all(abs(got - want) <= 1 for got, want in zip(found, counts, strict=True))


def _modules(layers: int) -> list[Module]:
    return [
        Module("vision", ModuleKind.VISION, 1, 2),
        Module("embed", ModuleKind.EMBED, 1, 2),
        *(Module(f"layers.{index}", ModuleKind.LAYER, 1, 2) for index in range(layers)),
        Module("norm", ModuleKind.NORM, 1, 2),
        Module("head", ModuleKind.HEAD, 1, 2),
    ]


def test_what_stands_around_the_layers() -> None:
    assert counts_to_slots(_modules(3), [2, 1], head=1, tied=False) == [0, 0, 0, 0, 1, 1, 1]


def test_a_tied_head_stays_with_its_embedding() -> None:
    assert counts_to_slots(_modules(3), [1, 2], head=1, tied=True) == [0, 0, 0, 1, 1, 1, 0]


def test_a_device_without_layers_is_passed_over() -> None:
    assert counts_to_slots(_modules(2), [0, 2], head=1, tied=False) == [0, 0, 1, 1, 1, 1]
