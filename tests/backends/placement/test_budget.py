"""What a plan may use of what is free."""

from __future__ import annotations

from dataclasses import replace

from backends.placement.budget import commit_budget, disk_budget, gpu_budget, ram_budget
from backends.placement.types import Credit
from tests.support.machines import GIB, MIB, gpu, machine

NONE = Credit()


def test_small_cards_keep_300_mib_and_large_ones_three_percent() -> None:
    assert gpu_budget(gpu(0, total=8, free=7), machine(), NONE) == 7 * GIB - 300 * MIB
    assert gpu_budget(gpu(0, total=80, free=79), machine(), NONE) == 79 * GIB - int(80 * GIB * 0.03)


def test_windows_keeps_a_tenth_more() -> None:
    assert gpu_budget(gpu(0, total=8, free=7), machine(os="windows"), NONE) == 7 * GIB - 330 * MIB


def test_a_full_card_has_no_budget_instead_of_a_negative_one() -> None:
    assert gpu_budget(gpu(0, total=8, free=0.1), machine(), NONE) == 0


def test_what_our_model_gives_back_counts_up_to_the_cards_size() -> None:
    card = gpu(0, total=8, free=2)

    assert gpu_budget(card, machine(), Credit(gpu_bytes=((0, 4 * GIB),))) == 6 * GIB - 300 * MIB
    assert gpu_budget(card, machine(), Credit(gpu_bytes=((0, 99 * GIB),))) == 8 * GIB - 300 * MIB
    assert gpu_budget(card, machine(), Credit(gpu_bytes=((1, 4 * GIB),))) == 2 * GIB - 300 * MIB


def test_ram_keeps_a_gib_or_eight_percent() -> None:
    assert ram_budget(machine(ram=8, available=6), NONE) == 5 * GIB
    assert ram_budget(machine(ram=64, available=60), NONE) == 60 * GIB - int(64 * GIB * 0.08)
    assert ram_budget(machine(ram=8, available=6), Credit(ram_bytes=GIB)) == 6 * GIB


def test_commit_is_a_limit_on_windows_only() -> None:
    assert commit_budget(machine(), NONE) is None
    assert commit_budget(machine(ram=16, available=12, commit=20, os="windows"), NONE) == 16 * GIB - int(
        16 * GIB * 0.08
    )


def test_what_windows_has_promised_to_others_counts_not_what_they_use() -> None:
    """Programs ask for more than they touch: 4 GiB in use here, and 9 promised."""
    seen = machine(ram=16, available=12, commit=20, os="windows")
    told = replace(seen, ram=replace(seen.ram, commit_available_bytes=11 * GIB))
    margin = int(16 * GIB * 0.08)
    assert commit_budget(told, NONE) == 11 * GIB - margin
    # Our own model gives back what it was promised, for the card as well.
    ours = Credit(ram_bytes=GIB, gpu_bytes=((0, 2 * GIB),))
    assert commit_budget(told, ours) == 14 * GIB - margin
    # A figure below what is in use is none to believe.
    odd = replace(seen, ram=replace(seen.ram, commit_available_bytes=19 * GIB))
    assert commit_budget(odd, NONE) == commit_budget(seen, NONE)


def test_the_disk_keeps_a_gib() -> None:
    assert disk_budget(machine(disk=10)) == 9 * GIB
    assert disk_budget(machine(disk=0.5)) == 0
