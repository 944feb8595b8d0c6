"""Figures of known parts, and rules of thumb for the rest: what is used while nobody has measured.

Sources: NVIDIA's architecture whitepapers (Turing WP-09183, Ampere GA102 2.1, Ada 2.1, Blackwell RTX
1.1), the data sheets of P40, P100, V100, T4, A10, A40, A100, L4, L40(S), H100, H200 and of the RTX A and
RTX Ada boards, and Apple's technical specifications for the memory bandwidth of its chips. TFLOP/s are
dense half-precision products with fp32 accumulation at boost clock; GPUs before Turing have no such
units, their fp32 rate stands there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from backends.hardware.types import Gpu

GIB = 1024**3

# A copy from pinned RAM reaches about this share of the link's rate (128b/130b coding is in the lane
# figures; what is left goes to packet headers and flow control).
PCIE_EFFICIENCY = 0.8
# Between a SATA SSD (0.5 GB/s) and a PCIe one (3 GB/s and more).
ASSUMED_DISK_GBPS = 1.0
# GB/s per lane and direction, by PCIe generation.
_PCIE_LANE_GBPS = {1: 0.25, 2: 0.5, 3: 0.985, 4: 1.969, 5: 3.938, 6: 7.563}


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """What data sheets say of a GPU: GiB of memory, GB/s, compute capability, half-precision TFLOP/s."""

    gib: float
    memory_gbps: float
    compute_capability: tuple[int, int]
    tflops: float

    @property
    def pcie_gbps(self) -> float:
        """Usual link of the generation, sixteen lanes."""
        major, minor = self.compute_capability
        generation = 5 if (major, minor) >= (9, 0) else 4 if major >= 8 else 3
        return link_gbps(generation, 16)


# Used for a GPU that no table knows: a slow one, so that no plan promises too much.
UNKNOWN_GPU = GpuFacts(gib=8, memory_gbps=200, compute_capability=(7, 5), tflops=12)

_TABLE = """
gtx 1060             6    192 6.1   4.4
gtx 1070             8    256 6.1   6.5
gtx 1080             8    320 6.1   8.9
gtx 1080 ti         11    484 6.1  11.3
gtx 1650             4    128 7.5   6.0
gtx 1660             6    192 7.5  10.0
gtx 1660 ti          6    288 7.5  11.0
gtx 1660 super       6    336 7.5  10.0
rtx 2060             6    336 7.5  25.8
rtx 2060 super       8    448 7.5  28.7
rtx 2070             8    448 7.5  29.9
rtx 2070 super       8    448 7.5  36.3
rtx 2080             8    448 7.5  40.3
rtx 2080 super       8    496 7.5  44.6
rtx 2080 ti         11    616 7.5  53.8
titan rtx           24    672 7.5 130.5
rtx 3050             8    224 8.6  18.2
rtx 3050 laptop      4    192 8.6  14.0
rtx 3050 ti laptop   4    192 8.6  16.0
rtx 3060            12    360 8.6  25.5
rtx 3060 laptop      6    336 8.6  25.8
rtx 3060 ti          8    448 8.6  32.4
rtx 3070             8    448 8.6  40.6
rtx 3070 laptop      8    448 8.6  31.0
rtx 3070 ti          8    608 8.6  43.5
rtx 3080            10    760 8.6  59.5
rtx 3080 laptop     16    448 8.6  36.0
rtx 3080 ti         12    912 8.6  68.2
rtx 3090            24    936 8.6  71.0
rtx 3090 ti         24   1008 8.6  80.0
rtx 4050 laptop      6    192 8.9  23.0
rtx 4060             8    272 8.9  30.2
rtx 4060 laptop      8    256 8.9  29.0
rtx 4060 ti          8    288 8.9  44.1
rtx 4070            12    504 8.9  58.3
rtx 4070 laptop      8    256 8.9  31.0
rtx 4070 super      12    504 8.9  71.0
rtx 4070 ti         12    504 8.9  80.2
rtx 4070 ti super   16    672 8.9  88.2
rtx 4080            16    717 8.9  97.5
rtx 4080 laptop     12    432 8.9  49.0
rtx 4080 super      16    736 8.9 104.4
rtx 4090            24   1008 8.9 165.2
rtx 4090 laptop     16    576 8.9  66.0
rtx 5050             8    320 12.0 26.4
rtx 5060             8    448 12.0 38.4
rtx 5060 laptop      8    384 12.0 26.0
rtx 5060 ti         16    448 12.0 47.4
rtx 5070            12    672 12.0 61.7
rtx 5070 laptop      8    384 12.0 30.0
rtx 5070 ti         16    896 12.0 87.9
rtx 5080            16    960 12.0 112.6
rtx 5090            32   1792 12.0 209.5
tesla p40           24    346 6.1  11.8
tesla p100          16    732 6.0  18.7
tesla t4            16    320 7.5  65.0
tesla v100          16    900 7.0 125.0
a10                 24    600 8.6 125.0
a10g                24    600 8.6  70.0
a40                 48    696 8.6 149.7
a100                40   1555 8.0 312.0
a100 80gb           80   1935 8.0 312.0
l4                  24    300 8.9 121.0
l40                 48    864 8.9 181.0
l40s                48    864 8.9 362.0
h100                80   3352 9.0 989.0
h100 pcie           80   2039 9.0 756.0
h100 nvl            94   3938 9.0 835.0
h200               141   4800 9.0 989.0
rtx a2000           12    288 8.6  31.9
rtx a4000           16    448 8.6  76.7
rtx a5000           24    768 8.6 111.1
rtx a6000           48    768 8.6 154.8
rtx 4000 ada        20    360 8.9 107.0
rtx 6000 ada        48    960 8.9 364.0
"""

_APPLE_GBPS = {
    "m1": 68,
    "m1 pro": 200,
    "m1 max": 400,
    "m1 ultra": 800,
    "m2": 100,
    "m2 pro": 200,
    "m2 max": 400,
    "m2 ultra": 800,
    "m3": 100,
    "m3 pro": 150,
    "m3 max": 300,
    "m3 ultra": 819,
    "m4": 120,
    "m4 pro": 273,
    "m4 max": 410,
}


def _key(name: str) -> str:
    words = re.sub(r"[^a-z0-9]+", " ", name.lower()).split()
    noise = {
        "nvidia",
        "geforce",
        "graphics",
        "gpu",
        "quadro",
        "sxm2",
        "sxm4",
        "sxm5",
        "hbm3",
        "hbm3e",
        "max",
        "q",
    }
    kept = [word for word in words if word not in noise]
    if kept[-1:] and kept[-1] in {"generation", "generations"}:
        kept.pop()
    return " ".join(kept)


def listed() -> dict[str, GpuFacts]:
    """Every GPU of the table, by the short form of its name."""
    rows = {}
    for line in _TABLE.strip().splitlines():
        name, gib, gbps, capability, tflops = line.rsplit(maxsplit=4)
        major, minor = capability.split(".")
        rows[name] = GpuFacts(float(gib), float(gbps), (int(major), int(minor)), float(tflops))
    return rows


def gpu_facts(name: str) -> GpuFacts | None:
    """Look a GPU up by the driver's name for it; None when the table does not have it.

    Words that only say how a board is built or how much memory it has ("PCIe 40GB") are dropped one by one
    from the end until a name of the table is left. A size in the name wins over the table's.
    """
    rows = listed()
    words = _key(name).split()
    size = re.search(r"\b(\d+) ?gb\b", name.lower())
    while words:
        for candidate in (" ".join(words), "tesla " + " ".join(words)):
            if candidate in rows:
                return replace(rows[candidate], gib=float(size[1])) if size else rows[candidate]
        if not re.fullmatch(r"\d+gb|pcie|d|lhr|oem", words[-1]):
            return None
        words.pop()
    return None


def fill_gpu(gpu: Gpu, cores: int | None = None, clock_mhz: int | None = None) -> tuple[Gpu, tuple[str, ...]]:
    """Fill in what is None of a GPU's speed and say which figures were filled in.

    `cores` and `clock_mhz` (boost), where known, give the TFLOP/s of a GPU that the table does not have.
    """
    listed = gpu_facts(gpu.name)
    facts = listed or UNKNOWN_GPU
    capability = gpu.compute_capability or facts.compute_capability
    tflops = facts.tflops
    if listed is None and cores and clock_mhz:
        tflops = assumed_tflops(gpu.name, capability, cores, clock_mhz)
    filled = replace(
        gpu,
        compute_capability=capability,
        memory_gbps=facts.memory_gbps if gpu.memory_gbps is None else gpu.memory_gbps,
        pcie_gbps=facts.pcie_gbps if gpu.pcie_gbps is None else gpu.pcie_gbps,
        tflops_bf16=tflops if gpu.tflops_bf16 is None else gpu.tflops_bf16,
    )
    figures = ("compute_capability", "memory_gbps", "pcie_gbps", "tflops_bf16")
    missing = tuple(figure for figure in figures if getattr(gpu, figure) is None)
    return filled, missing


def link_gbps(generation: int, lanes: int) -> float:
    """Usable GB/s, one way, of a PCIe link."""
    lane = _PCIE_LANE_GBPS.get(min(generation, max(_PCIE_LANE_GBPS)), _PCIE_LANE_GBPS[1])
    return round(lane * lanes * PCIE_EFFICIENCY, 1)


def assumed_tflops(name: str, compute_capability: tuple[int, int], cores: int, clock_mhz: float) -> float:
    """Half-precision TFLOP/s of a GPU that is not in the table, from its cores and clock.

    fp32 rate (2 x cores x clock) times what the tensor units of its generation do more: 16 on the large
    data-centre chips (8.0, 9.0, 10.0), 8 on Volta, 4 on Turing, 2 on GeForce since Ampere, 1 before.
    """
    factors = {(8, 0): 16, (9, 0): 16, (10, 0): 16, (7, 0): 8, (7, 5): 4}
    default = 1 if compute_capability < (7, 0) else 2 if "geforce" in name.lower() else 4
    factor = 2 if "gtx 16" in name.lower() else factors.get(compute_capability, default)
    return round(2e-6 * cores * clock_mhz * factor, 1)


def apple_memory_gbps(name: str) -> float | None:
    """Memory bandwidth of an Apple chip by its name ("Apple M2 Pro")."""
    return _APPLE_GBPS.get(name.lower().removeprefix("apple ").strip())


def assumed_ram_gbps(name: str, cores: int) -> float:
    """RAM read bandwidth by a rule: about 12 GB/s a core, up to what the usual memory channels give.

    Two DDR4 or DDR5 channels on a desktop read about 45 GB/s; servers, told by more than 16 cores, have
    four to twelve channels and give their cores some 6 GB/s each.
    """
    apple = apple_memory_gbps(name)
    if apple is not None:
        return round(apple * 0.8, 1)
    if cores <= 16:
        return round(min(12.0 * cores, 45.0), 1)
    return round(min(6.0 * cores, 250.0), 1)


def assumed_gflops(cores: int, features: tuple[str, ...], ghz: float | None = None) -> float:
    """fp32 GFLOP/s that a matrix product reaches, by a rule: cores x clock x operations a cycle x 0.6.

    Operations a cycle: two fused multiply-adds on vectors of 16 (AVX-512), 8 (AVX2), 4 (NEON) floats; one
    multiply and one add on 8 with plain AVX. 0.6 is what is usually left after lower clocks under vector
    load and after memory.
    """
    per_cycle = 8
    for feature, operations in (("avx512f", 64), ("avx2", 32), ("neon", 16), ("avx", 16)):
        if feature in features:
            per_cycle = operations
            break
    return round(cores * (ghz or 3.0) * per_cycle * 0.6, 1)
