"""Machines written as literals, for the planner's tests."""

from __future__ import annotations

from typing import Any

from backends.hardware.types import Cpu, Disk, Gpu, GpuProcess, HardwareSnapshot, OsName, Ram

GIB = 1024**3
MIB = 1024**2


def gpu(
    index: int,
    name: str = "NVIDIA GeForce RTX 3090",
    total: float = 24,
    free: float | None = None,
    **more: Any,
) -> Gpu:
    """A card with `total` and `free` GiB."""
    figures: dict[str, Any] = {
        "compute_capability": (8, 6),
        "memory_gbps": 936.0,
        "pcie_gbps": 25.0,
        "tflops_bf16": 71.0,
        **more,
    }
    free_bytes = int((total - 0.4 if free is None else free) * GIB)
    return Gpu(index, name, int(total * GIB), free_bytes, **figures)


def rtx_4060(index: int = 0, **more: Any) -> Gpu:
    """8 GB, Ada."""
    return gpu(
        index,
        "NVIDIA GeForce RTX 4060",
        8,
        **{"compute_capability": (8, 9), "memory_gbps": 272.0, "tflops_bf16": 30.0, **more},
    )


def rtx_2080_ti(index: int = 0, **more: Any) -> Gpu:
    """11 GB, Turing: no bf16."""
    return gpu(
        index,
        "NVIDIA GeForce RTX 2080 Ti",
        11,
        **{"compute_capability": (7, 5), "memory_gbps": 616.0, "tflops_bf16": 54.0, **more},
    )


def rtx_2060(index: int = 0, **more: Any) -> Gpu:
    """6 GB, Turing."""
    return gpu(
        index,
        "NVIDIA GeForce RTX 2060",
        6,
        **{
            "compute_capability": (7, 5),
            "memory_gbps": 336.0,
            "tflops_bf16": 25.0,
            "pcie_gbps": 12.0,
            **more,
        },
    )


def process(pid: int = 4321, name: str = "python", gib: float = 20, *, ours: bool = False) -> GpuProcess:
    """A process that holds memory of a card."""
    return GpuProcess(pid, name, int(gib * GIB), ours)


def machine(
    *gpus: Gpu,
    ram: float = 32,
    available: float | None = None,
    os: OsName = "linux",
    features: tuple[str, ...] = ("avx2",),
    commit: float | None = None,
    disk: float = 200,
    path: str = "/home/someone/snug",
    **more: Any,
) -> HardwareSnapshot:
    """A machine with 8 cores at 40 GB/s; sizes in GiB."""
    return HardwareSnapshot(
        os=os,
        gpus=gpus,
        ram=Ram(
            int(ram * GIB),
            int((ram - 3 if available is None else available) * GIB),
            None if commit is None else int(commit * GIB),
            40.0,
        ),
        cpu=Cpu("Test CPU", 8, features, 500.0),
        disk=Disk(path, int(disk * GIB), 2.0),
        **more,
    )
