"""What a machine has, as values. Sizes are bytes, bandwidths GB/s (1e9 bytes)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from backends.text import Text

OsName = Literal["windows", "linux", "macos"]


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that holds memory on a GPU; `bytes` is 0 when the driver does not tell."""

    pid: int
    name: str
    bytes: int
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as its driver sees it; `index` is the driver's (PCI) index, `None` figures are unknown.

    `pcie_gbps` is what a copy from pinned RAM reaches, `pageable_gbps` one from ordinary RAM; `tflops_bf16`
    counts dense half-precision products (fp16 where the GPU has no bf16) added up in fp32.
    """

    index: int
    name: str
    total_bytes: int
    free_bytes: int
    compute_capability: tuple[int, int] | None = None
    utilization: int | None = None
    temperature_c: int | None = None
    display: bool = False
    memory_gbps: float | None = None
    pcie_gbps: float | None = None
    tflops_bf16: float | None = None
    nvlink_peers: tuple[int, ...] = ()
    processes: tuple[GpuProcess, ...] = ()
    uuid: str | None = None
    pageable_gbps: float | None = None
    tflops_fp32: float | None = None


@dataclass(frozen=True, slots=True)
class Ram:
    """Main memory.

    On Windows `commit_limit_bytes` is RAM + page file, and `commit_available_bytes` what of it is promised to
    no program yet (None: not told); elsewhere both are None.
    """

    total_bytes: int
    available_bytes: int
    commit_limit_bytes: int | None = None
    memory_gbps: float | None = None
    commit_available_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Cpu:
    """`cores` are physical; `features` the instruction sets that decide speed (avx2, avx512f, ...).

    `gflops_*` are matrix products as in reading a prompt. `vector_gbps_*` are weights read by a matrix that
    multiplies one vector, as in writing a token: in half precision that needs more work than reading. Those
    of bf16 and of vectors are None until they were measured.
    """

    name: str
    cores: int
    features: tuple[str, ...] = ()
    gflops_fp32: float | None = None
    gflops_bf16: float | None = None
    vector_gbps_fp32: float | None = None
    vector_gbps_bf16: float | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk that holds Snug's own folder."""

    path: str
    free_bytes: int
    read_gbps: float | None = None


@dataclass(frozen=True, slots=True)
class HardwareSnapshot:
    """The machine at one moment.

    `gpus` are those that Snug may use (`CUDA_VISIBLE_DEVICES` is already applied). `notes` say plainly what
    is absent, hidden or could not be asked. `assumed` names the figures that come from a table or a rule
    and not from this machine, as JSON paths: `gpus[0].memory_gbps`, `ram.memory_gbps`, `cpu.gflops_fp32`.
    `left_out` are (index, why) of GPUs that are there and that PyTorch can't use. `torch_cuda` is the CUDA
    that the installed PyTorch was built for, None where that is not known (of another machine).
    """

    os: OsName
    gpus: tuple[Gpu, ...]
    ram: Ram
    cpu: Cpu
    disk: Disk
    driver_version: str | None = None
    cuda_version: tuple[int, int] | None = None
    notes: tuple[Text, ...] = field(default=())
    assumed: tuple[str, ...] = ()
    left_out: tuple[tuple[int, Text], ...] = ()
    torch_cuda: tuple[int, int] | None = None
