"""A stub NVIDIA driver for tests: any set of GPUs, served to the real pynvml of a child process.

`nvml_driver(description)` gives the environment variables with which a child sees the described GPUs;
`describe(env, description)` changes what a running child sees at its next look. A description is a
`StubDriver`, or a hardware file of tests/hardware (its path or its parsed JSON).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

HARDWARE_FILES = Path(__file__).resolve().parents[2] / "hardware"
_SOURCE = Path(__file__).with_name("nvml_stub.c")
_VARIABLE = "SNUG_TEST_NVML"


@dataclass(frozen=True, slots=True)
class StubProcess:
    """A process on a GPU; `nbytes` None is what Windows desktops answer."""

    pid: int
    nbytes: int | None
    graphics: bool = False


@dataclass(frozen=True, slots=True)
class StubGpu:
    """One GPU; a figure that is None is answered with "not supported"."""

    name: str
    total_bytes: int | None
    free_bytes: int = 0
    uuid: str | None = None
    utilization: int | None = 0
    temperature: int | None = 40
    compute: tuple[int, int] | None = (8, 6)
    cores: int | None = None
    sm_clock: int | None = None
    bus_width: int | None = None
    memory_clock: int | None = None
    pcie: tuple[int, int] | None = None
    display: tuple[int, int] | None = (0, 0)
    mig: int | None = None
    nvlink: tuple[int, ...] = ()
    processes: tuple[StubProcess, ...] = ()
    lost: int | None = None

    def lines(self) -> list[str]:
        """The GPU as lines of the stub's file."""
        figures: list[tuple[str, Any]] = [
            ("uuid", self.uuid),
            ("memory", None if self.total_bytes is None else (self.total_bytes, self.free_bytes)),
            ("utilization", self.utilization),
            ("temperature", self.temperature),
            ("compute", self.compute),
            ("cores", self.cores),
            ("sm_clock", self.sm_clock),
            ("bus_width", self.bus_width),
            ("memory_clock", self.memory_clock),
            ("pcie", self.pcie),
            ("display", self.display),
            ("mig", self.mig),
            ("lost", self.lost),
            *(("nvlink", peer) for peer in self.nvlink),
            *(
                ("graphics" if held.graphics else "process", (held.pid, _told(held.nbytes)))
                for held in self.processes
            ),
        ]
        return [
            f"gpu {self.name}",
            *(f"{key} {_values(value)}" for key, value in figures if value is not None),
        ]


@dataclass(frozen=True, slots=True)
class StubDriver:
    """The driver and its GPUs; `init_error` and `count_error` are NVML status codes."""

    gpus: tuple[StubGpu, ...] = ()
    driver_version: str | None = "580.95.05"
    cuda_version: int | None = 13000
    init_error: int | None = None
    count_error: int | None = None
    process_names: Mapping[int, str] = field(default_factory=dict)

    def text(self) -> str:
        """The whole file."""
        figures = ("driver_version", "cuda_version", "init_error", "count_error")
        lines = [f"{key} {getattr(self, key)}" for key in figures if getattr(self, key) is not None]
        lines += [f"process_name {pid} {name}" for pid, name in self.process_names.items()]
        for gpu in self.gpus:
            lines += gpu.lines()
        return "\n".join(lines) + "\n"


Description = StubDriver | Path | Mapping[str, Any]
NvmlDriver = Callable[[Description], dict[str, str]]


def from_hardware(document: Mapping[str, Any]) -> StubDriver:
    """Turn a hardware description (DESIGN section 6) into what its driver would answer."""
    gpus = []
    names = {}
    for entry in document["gpus"]:
        bandwidth = entry.get("memory_gbps")
        capability = entry.get("compute_capability")
        for held in entry.get("processes", ()):
            names[held["pid"]] = held["name"]
        gpus.append(
            StubGpu(
                name=entry["name"],
                total_bytes=entry["total_bytes"],
                free_bytes=entry["free_bytes"],
                uuid=f"GPU-{len(gpus):08x}-0000-4000-8000-{entry['total_bytes'] % 16**12:012x}",
                utilization=entry.get("utilization"),
                compute=tuple(capability) if capability else None,
                bus_width=256 if bandwidth else None,
                memory_clock=round(bandwidth * 1000 / 64) if bandwidth else None,
                pcie=_link(entry.get("pcie_gbps")),
                display=(int(entry.get("display", False)),) * 2,
                nvlink=tuple(entry.get("nvlink_peers", ())),
                processes=tuple(
                    StubProcess(held["pid"], held["bytes"]) for held in entry.get("processes", ())
                ),
            )
        )
    return StubDriver(tuple(gpus), process_names=names)


def describe(env: Mapping[str, str], description: Description) -> None:
    """Change what children started with `env` see from now on."""
    if isinstance(description, Path):
        description = json.loads(description.read_text(encoding="utf-8"))
    if not isinstance(description, StubDriver):
        description = from_hardware(description)
    path = Path(env[_VARIABLE])
    fresh = path.with_suffix(".new")
    fresh.write_text(description.text(), encoding="utf-8")
    fresh.replace(path)


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the compiled stub. Without a C compiler: skipped locally, failed where CI is set."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        reason = "the stub NVIDIA driver needs Linux and a C compiler"
        if os.environ.get("CI") and sys.platform == "linux":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("nvml")
    soname = "libnvidia-ml.so.1"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", f"-Wl,-soname,{soname}"]
    subprocess.run([*command, "-o", str(folder / soname), str(_SOURCE)], check=True)
    return folder


@pytest.fixture
def nvml_driver(nvml_library: Path, tmp_path: Path) -> NvmlDriver:
    """Write a description and return the variables that a child process needs, beside its usual ones."""
    count = 0

    def serve(description: Description) -> dict[str, str]:
        nonlocal count
        count += 1
        folders = [str(nvml_library), os.environ.get("LD_LIBRARY_PATH", "")]
        env = {
            "LD_LIBRARY_PATH": os.pathsep.join(folder for folder in folders if folder),
            _VARIABLE: str(tmp_path / f"nvml-{count}.txt"),
        }
        describe(env, description)
        return env

    return serve


def _told(nbytes: int | None) -> int:
    return -1 if nbytes is None else nbytes


def _values(value: object) -> str:
    return " ".join(str(part) for part in value) if isinstance(value, tuple) else str(value)


def _link(gbps: float | None) -> tuple[int, int] | None:
    """The PCIe generation and lanes whose usable rate (80 % of 0.985 GB/s a gen-3 lane) is nearest."""
    if gbps is None:
        return None
    links = [(generation, lanes) for generation in (3, 4, 5) for lanes in (4, 8, 16)]
    return min(links, key=lambda link: abs(0.8 * 0.985 * 2.0 ** (link[0] - 3) * link[1] - gbps))
