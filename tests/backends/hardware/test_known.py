"""The table of known parts and the rules for the rest."""

from __future__ import annotations

import pytest

from backends.hardware import known
from backends.hardware.types import Gpu

GIB = 1024**3


@pytest.mark.parametrize(
    ("name", "gib", "memory_gbps", "capability"),
    [
        ("NVIDIA GeForce RTX 3090", 24, 936, (8, 6)),
        ("NVIDIA GeForce RTX 4070 Laptop GPU", 8, 256, (8, 9)),
        ("GeForce GTX 1080 Ti", 11, 484, (6, 1)),
        ("Tesla T4", 16, 320, (7, 5)),
        ("Tesla V100-SXM2-32GB", 32, 900, (7, 0)),
        ("NVIDIA A100-SXM4-40GB", 40, 1555, (8, 0)),
        ("NVIDIA A100 80GB PCIe", 80, 1935, (8, 0)),
        ("NVIDIA H100 80GB HBM3", 80, 3352, (9, 0)),
        ("NVIDIA H100 PCIe", 80, 2039, (9, 0)),
        ("NVIDIA RTX 6000 Ada Generation", 48, 960, (8, 9)),
        ("nvidia rtx a6000", 48, 768, (8, 6)),
        ("RTX 3060", 12, 360, (8, 6)),
    ],
)
def test_a_known_gpu_by_its_drivers_name(
    name: str, gib: float, memory_gbps: float, capability: tuple[int, int]
) -> None:
    facts = known.gpu_facts(name)
    assert facts is not None
    assert (facts.gib, facts.memory_gbps, facts.compute_capability) == (gib, memory_gbps, capability)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("NVIDIA GeForce RTX 5090 Laptop GPU", id="a laptop part is not the desktop's"),
        pytest.param("NVIDIA GeForce RTX 3090 Mini", id="an unknown variant"),
        pytest.param("AMD Radeon RX 7900 XTX", id="another maker"),
        pytest.param("", id="no name"),
    ],
)
def test_an_unknown_gpu_is_not_guessed_by_a_similar_name(name: str) -> None:
    assert known.gpu_facts(name) is None


def test_every_row_of_the_table_is_found_and_plausible() -> None:
    names = [line.rsplit(maxsplit=4)[0] for line in known._TABLE.strip().splitlines()]
    assert len(names) == len(set(names)) > 60
    for name in names:
        facts = known.gpu_facts(name)
        assert facts is not None
        assert 100 <= facts.memory_gbps <= 10_000
        # What a board computes per byte it reads: between a GTX 1060 and an L40S.
        assert 15 <= facts.tflops * 1000 / facts.memory_gbps <= 450


@pytest.mark.parametrize(
    ("generation", "lanes", "gbps"),
    [(3, 16, 12.6), (4, 16, 25.2), (4, 8, 12.6), (5, 16, 50.4), (9, 16, 96.8)],
)
def test_usable_rate_of_a_link(generation: int, lanes: int, gbps: float) -> None:
    assert known.link_gbps(generation, lanes) == gbps


@pytest.mark.parametrize(
    ("name", "capability", "cores", "mhz", "tflops"),
    [
        ("NVIDIA GeForce RTX 3090", (8, 6), 10496, 1695, 71),
        ("NVIDIA GeForce RTX 4090", (8, 9), 16384, 2520, 165),
        ("NVIDIA RTX A6000", (8, 6), 10752, 1800, 155),
        ("NVIDIA A100-SXM4-40GB", (8, 0), 6912, 1410, 312),
        ("Tesla V100-SXM2-16GB", (7, 0), 5120, 1530, 125),
        ("NVIDIA GeForce RTX 2080 Ti", (7, 5), 4352, 1545, 54),
        ("NVIDIA GeForce GTX 1080 Ti", (6, 1), 3584, 1582, 11.3),
        ("NVIDIA GeForce RTX 5090", (12, 0), 21760, 2407, 209),
    ],
)
def test_the_rule_for_unknown_boards_agrees_with_data_sheets(
    name: str, capability: tuple[int, int], cores: int, mhz: float, tflops: float
) -> None:
    assert known.assumed_tflops(name, capability, cores, mhz) == pytest.approx(tflops, rel=0.03)


def test_only_what_is_unknown_is_filled_in() -> None:
    gpu = Gpu(0, "NVIDIA GeForce RTX 3090", 24 * GIB, 20 * GIB, memory_gbps=900.0)
    filled, assumed = known.fill_gpu(gpu)
    assert filled.memory_gbps == 900.0
    assert (filled.compute_capability, filled.pcie_gbps, filled.tflops_bf16) == ((8, 6), 25.2, 71.0)
    assert assumed == ("compute_capability", "pcie_gbps", "tflops_bf16")


@pytest.mark.parametrize(
    ("name", "cores", "least", "most"),
    [
        pytest.param("AMD EPYC", 2, 20, 30, id="two cores don't saturate the channels"),
        pytest.param("Intel Core i7", 8, 40, 50, id="desktop: two channels"),
        pytest.param("AMD EPYC 9654", 96, 150, 300, id="server"),
        pytest.param("Apple M2 Max", 12, 300, 400, id="Apple's wide memory"),
    ],
)
def test_assumed_ram_bandwidth(name: str, cores: int, least: float, most: float) -> None:
    assert least <= known.assumed_ram_gbps(name, cores) <= most


def test_wider_vectors_more_cores_and_clock_mean_more_gflops() -> None:
    plain = known.assumed_gflops(8, ("avx",))
    avx2 = known.assumed_gflops(8, ("avx", "avx2"))
    avx512 = known.assumed_gflops(8, ("avx", "avx2", "avx512f"))
    assert plain < avx2 < avx512
    assert known.assumed_gflops(16, ("avx", "avx2")) == pytest.approx(2 * avx2)
    assert known.assumed_gflops(8, ("avx", "avx2"), ghz=1.5) == pytest.approx(avx2 / 2)
