"""Machines that one does not have: typical ones, put together, and described."""

from __future__ import annotations

import math

import pytest

from backends.errors import SettingInvalid
from backends.hardware.describe import from_json, read_text, to_json
from ui.i18n import catalog
from ui.web import machines
from ui.web.machines import GIB, Parts


@pytest.mark.parametrize("key", list(machines.TYPICAL))
def test_a_typical_machine_is_complete_and_named(key: str) -> None:
    parts = machines.TYPICAL[key]
    built = machines.build(parts)
    assert len(built.gpus) == parts.count
    assert built.ram.total_bytes == int(parts.ram_gib * GIB)
    assert all(gpu.memory_gbps and gpu.compute_capability for gpu in built.gpus)
    assert f"machine.{key}" in catalog("en")
    assert f"machine.{key}" in catalog("zh")


@pytest.mark.parametrize("key", list(machines.TYPICAL))
def test_its_description_describes_it(key: str) -> None:
    built = machines.build(machines.TYPICAL[key])
    again = from_json(to_json(built), "test")
    assert (again.gpus, again.ram, again.cpu, again.os) == (built.gpus, built.ram, built.cpu, built.os)


def test_every_card_of_the_list_is_known() -> None:
    assert [name for name in machines.card_names() if machines.card_gib(name) is None] == []


@pytest.mark.parametrize(
    ("before", "card", "after"),
    [
        (Parts(), "NVIDIA GeForce RTX 4090", Parts("NVIDIA GeForce RTX 4090", 1, 24)),
        (Parts("x", 4, 8), "NVIDIA GeForce RTX 3060", Parts("NVIDIA GeForce RTX 3060", 4, 12)),
        (Parts("x", 4, 8), "", Parts()),
        (Parts("x", 1, 8), "Some card", Parts("Some card", 1, None)),
    ],
    ids=["the first card", "another card", "no card", "a card that no table has"],
)
def test_another_card_brings_its_memory(before: Parts, card: str, after: Parts) -> None:
    assert machines.with_card(before, card) == after


def test_the_fields_show_the_machine_that_they_made() -> None:
    parts = Parts("NVIDIA GeForce RTX 3060", 2, 12, 48, "linux")
    assert machines.parts_of(machines.build(parts)) == parts


@pytest.mark.parametrize(
    "parts",
    [
        Parts("Some card", 1),
        Parts("NVIDIA GeForce RTX 3060", 1, -3),
        Parts("NVIDIA GeForce RTX 3060", 1, 1e30),
        Parts(ram_gib=0),
        Parts(ram_gib=-1),
        Parts(os="amiga"),
        *(Parts("NVIDIA GeForce RTX 3060", count) for count in (-1, 1e9, math.inf, math.nan)),
        *(Parts("NVIDIA GeForce RTX 3060", 1, gib) for gib in (1e308, math.inf, math.nan)),
        *(Parts(ram_gib=gib) for gib in (1e308, math.inf, math.nan)),
    ],
    ids=str,
)
def test_a_machine_that_cannot_be_is_refused(parts: Parts) -> None:
    with pytest.raises(SettingInvalid):
        machines.build(parts)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "read"),
        ("{", "line 1"),
        ('{"os": "linux", "gpus": []}', "ram can't be left out"),
        ('{"os": "linux", "ram": {"total_bytes": NaN}}', "NaN"),
        ("[" * 100_000, "nested"),
    ],
    ids=["nothing", "half", "no RAM", "not a number", "nested without end"],
)
def test_a_pasted_description_that_is_none(text: str, says: str) -> None:
    with pytest.raises(SettingInvalid, match=f"(?i){says}"):
        read_text(text, "The description", "read", "the description")
