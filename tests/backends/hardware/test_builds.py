"""GPUs that no PyTorch could use are left out with a reason, on this machine and on a described one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.hardware import builds
from backends.hardware.describe import from_json
from backends.hardware.torch_build import TorchBuild, without_idle_gpus
from backends.hardware.types import HardwareSnapshot


def described(*gpus: tuple[str, list[int] | None], os: str = "linux") -> HardwareSnapshot:
    entries = [{"name": name, "compute_capability": has, "total_bytes": 1 << 33} for name, has in gpus]
    return from_json({"os": os, "gpus": entries, "ram": {"total_bytes": 1 << 34}}, "test")


ADA, PASCAL = ("NVIDIA GeForce RTX 4090", [8, 9]), ("NVIDIA GeForce GTX 1080", [6, 1])
BLACKWELL = ("NVIDIA GeForce RTX 5090", [12, 0])


@pytest.mark.parametrize(
    ("hardware", "why"),
    [
        pytest.param(described(("AMD Radeon RX 7900 XTX", None)), "another maker's", id="AMD"),
        pytest.param(described(("Intel(R) Arc(TM) A770 Graphics", None)), "another maker's", id="Intel"),
        pytest.param(described(("Apple M2 Max", None), os="macos"), "another maker's", id="Apple"),
        pytest.param(described(ADA, os="macos"), "no CUDA for macOS", id="NVIDIA in a Mac"),
        pytest.param(
            described(("Tesla K80", [3, 7])), "3.7, and PyTorch for CUDA 12.6 works from 5.0", id="old"
        ),
    ],
)
def test_a_card_that_is_no_use_is_named_with_the_reason(hardware: HardwareSnapshot, why: str) -> None:
    found = builds.usable(hardware)

    assert found.gpus == ()
    ((index, reason),) = found.left_out
    assert index == 0
    assert hardware.gpus[0].name in str(reason)
    assert why in str(reason)
    assert builds.usable(found) == found
    assert not [path for path in found.assumed if path.startswith("gpus")]


@pytest.mark.parametrize(
    "card",
    [ADA, PASCAL, BLACKWELL, ("Tesla M4", [5, 2]), ("Some card of a board maker", None), ("TITAN V", [7, 0])],
    ids=lambda card: str(card[0]),
)
def test_a_card_for_which_there_is_a_build_is_used(card: tuple[str, list[int] | None]) -> None:
    assert builds.usable(described(card)).gpus


def test_beside_a_card_of_today_one_from_before_turing_is_left_out() -> None:
    hardware = described(PASCAL, ADA)

    found = builds.usable(hardware)

    assert [gpu.index for gpu in found.gpus] == [1]
    assert "6.1, and PyTorch for CUDA 13.0 works from 7.5 on" in str(found.left_out[0][1])
    assert {path.partition(".")[0] for path in found.assumed if path.startswith("gpus")} == {"gpus[0]"}


@pytest.mark.parametrize(
    ("cuda", "kept"),
    [((12, 6), ["NVIDIA GeForce GTX 1080", "NVIDIA GeForce RTX 4090"]), ((12, 8), None), ((13, 0), None)],
    ids=["12.6 knows no Blackwell", "12.8 knows no Pascal", "13.0 knows no Pascal"],
)
def test_on_this_machine_the_installed_build_decides(cuda: tuple[int, int], kept: list[str] | None) -> None:
    hardware = replace(described(PASCAL, ADA, BLACKWELL), cuda_version=(13, 0))

    found = without_idle_gpus(hardware, TorchBuild("2.13.0", cuda))

    assert [gpu.name for gpu in found.gpus] == (kept or [ADA[0], BLACKWELL[0]])
    assert builds.usable(found) == found, "what is installed decides, not what would suit"


def test_links_to_a_card_that_is_left_out_are_forgotten() -> None:
    hardware = described(PASCAL, ADA)
    linked = replace(hardware, gpus=(hardware.gpus[0], replace(hardware.gpus[1], nvlink_peers=(0,))))
    assert builds.usable(linked).gpus[0].nvlink_peers == ()
