"""What detection makes of a driver's answers, given by a stub driver to the real pynvml."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.hardware.nvidia import visible
from tests.support.nvml import HARDWARE_FILES, NvmlDriver, StubDriver, StubGpu, StubProcess, describe

ROOT = Path(__file__).resolve().parents[3]
GIB = 1024**3

RTX3090 = StubGpu(
    "NVIDIA GeForce RTX 3090",
    24 * GIB,
    23 * GIB,
    uuid="GPU-aaaa0000-0000-4000-8000-000000000000",
    utilization=7,
    temperature=54,
    compute=(8, 6),
    cores=10496,
    sm_clock=1695,
    bus_width=384,
    memory_clock=9751,
    pcie=(4, 16),
)
LAPTOP = StubGpu("NVIDIA GeForce RTX 3060 Laptop GPU", 6 * GIB, 5 * GIB, display=(1, 1), pcie=(4, 8))


class Child:
    """A process that looks at the machine when told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def look(self) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write("look\n")
        stdin.flush()
        return dict(json.loads(stdout.readline()))


@contextmanager
def looking(env: Mapping[str, str], **more: str) -> Iterator[Child]:
    inherited = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(Path(__file__).with_name("look.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**inherited, "PYTHONPATH": str(ROOT), **env, **more},
        text=True,
        encoding="utf-8",
    )
    with process:
        yield Child(process)
    assert process.returncode == 0


def look(env: Mapping[str, str], **more: str) -> dict[str, Any]:
    with looking(env, **more) as child:
        return child.look()


def codes(seen: Mapping[str, Any]) -> list[str]:
    return [code for code, _ in seen["notes"] if not code.startswith(("hardware.ram_", "hardware.cpu_"))]


def test_every_figure_of_a_gpu_is_the_drivers(nvml_driver: NvmlDriver) -> None:
    seen = look(nvml_driver(StubDriver((RTX3090,))))
    (gpu,) = seen["gpus"]
    assert gpu == {
        "index": 0,
        "name": "NVIDIA GeForce RTX 3090",
        "total_bytes": 24 * GIB,
        "free_bytes": 23 * GIB,
        "compute_capability": [8, 6],
        "utilization": 7,
        "temperature_c": 54,
        "display": False,
        "memory_gbps": 936.1,  # 384 bit x 9751 MHz x 2 / 8, as the data sheet says
        "pcie_gbps": 25.2,  # 16 lanes x 1.969 GB/s, 80 % of which a copy reaches
        "tflops_bf16": 71.0,
        "pageable_gbps": None,  # no driver tells these two: they are measured, or unknown
        "tflops_fp32": None,
        "nvlink_peers": [],
        "processes": [],
        "uuid": "GPU-aaaa0000-0000-4000-8000-000000000000",
    }
    assert seen["driver_version"] == "580.95.05"
    assert seen["cuda_version"] == [13, 0]
    assert codes(seen) == []
    assert "gpus[0].tflops_bf16" in seen["assumed"]
    assert "gpus[0].memory_gbps" not in seen["assumed"]


@pytest.mark.parametrize(
    "name", ["four_3090_one_busy", "two_24gb_first_taken", "eight_11gb", "small_windows_4gb", "h100_80gb"]
)
def test_described_gpus_come_back_as_described(nvml_driver: NvmlDriver, name: str) -> None:
    path = HARDWARE_FILES / f"{name}.json"
    wanted = json.loads(path.read_text(encoding="utf-8"))["gpus"]
    seen = look(nvml_driver(path))["gpus"]
    same = ("index", "name", "total_bytes", "free_bytes", "compute_capability", "utilization", "display")
    for gpu, described in zip(seen, wanted, strict=True):
        assert {key: gpu[key] for key in same} == {key: described[key] for key in same}
        assert gpu["nvlink_peers"] == described["nvlink_peers"]
        assert gpu["memory_gbps"] == pytest.approx(described["memory_gbps"], rel=0.01)
        assert gpu["pcie_gbps"] == pytest.approx(described["pcie_gbps"], rel=0.02)
        assert sorted((held["pid"], held["bytes"]) for held in gpu["processes"]) == sorted(
            (held["pid"], held["bytes"]) for held in described["processes"]
        )


@pytest.mark.parametrize(
    ("driver", "note"),
    [
        pytest.param(StubDriver(init_error=9), "hardware.driver_not_loaded", id="the driver is not running"),
        pytest.param(StubDriver(init_error=18), "hardware.driver_mismatch", id="updated without a restart"),
        pytest.param(StubDriver(init_error=4), "hardware.no_permission", id="no right to /dev/nvidiactl"),
        pytest.param(StubDriver(init_error=28), "hardware.no_device", id="initialising finds no GPU"),
        pytest.param(StubDriver(init_error=999), "hardware.driver_error", id="an unknown error"),
        pytest.param(StubDriver(), "hardware.no_device", id="the driver counts no GPU"),
        pytest.param(StubDriver((RTX3090,), count_error=9), "hardware.driver_error", id="unloaded meanwhile"),
        pytest.param(StubDriver((replace(RTX3090, mig=1),)), "hardware.gpu_mig", id="split by MIG"),
        pytest.param(StubDriver((replace(RTX3090, lost=15),)), "hardware.gpu_lost", id="fell off the bus"),
        pytest.param(
            StubDriver((replace(RTX3090, total_bytes=None),)),
            "hardware.gpu_no_memory_figure",
            id="memory is not told",
        ),
    ],
)
def test_a_machine_without_a_usable_gpu_says_why(
    nvml_driver: NvmlDriver, driver: StubDriver, note: str
) -> None:
    seen = look(nvml_driver(driver))
    assert seen["gpus"] == []
    assert codes(seen) == [note]
    assert seen["ram"]["total_bytes"] > 0


def test_without_a_driver_snug_says_that_it_uses_the_cpu() -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has an NVIDIA driver")
    seen = look({})
    assert seen["gpus"] == []
    assert ["hardware.no_nvidia", "No NVIDIA driver was found, so Snug uses the CPU."] in seen["notes"]


def test_figures_that_a_board_does_not_tell_are_unknown_or_assumed(nvml_driver: NvmlDriver) -> None:
    bare = StubGpu(
        "NVIDIA Imaginary 1", 8 * GIB, 7 * GIB, utilization=None, temperature=None, compute=None, display=None
    )
    seen = look(nvml_driver(StubDriver((bare,), driver_version=None, cuda_version=None)))
    (gpu,) = seen["gpus"]
    assert gpu["utilization"] is None
    assert gpu["temperature_c"] is None
    assert gpu["display"] is False
    assert gpu["uuid"] is None
    assert seen["driver_version"] is None
    assert seen["cuda_version"] is None
    assert {"compute_capability", "memory_gbps", "pcie_gbps", "tflops_bf16"} == {
        path.removeprefix("gpus[0].") for path in seen["assumed"] if path.startswith("gpus")
    }


def test_a_new_board_is_judged_by_its_cores_and_clock(nvml_driver: NvmlDriver) -> None:
    future = replace(RTX3090, name="NVIDIA GeForce RTX 9990", compute=(13, 0), cores=20000, sm_clock=2500)
    (gpu,) = look(nvml_driver(StubDriver((future,))))["gpus"]
    assert gpu["tflops_bf16"] == 200.0  # 2 x 20,000 x 2.5 GHz, twice that on tensor units


def test_processes_are_named_once_each_with_their_memory(nvml_driver: NvmlDriver) -> None:
    mine = os.getpid()
    gone = 2**22 + 7  # above Linux' highest process id
    held = (
        StubProcess(mine, 2 * GIB),
        StubProcess(mine, 3 * GIB, graphics=True),
        StubProcess(gone, 5 * GIB),
        StubProcess(gone + 1, None, graphics=True),
    )
    driver = StubDriver((replace(RTX3090, processes=held),), process_names={gone: "/opt/blender/blender"})
    (gpu,) = look(nvml_driver(driver))["gpus"]
    assert [(entry["pid"], entry["bytes"]) for entry in gpu["processes"]] == [
        (gone, 5 * GIB),
        (mine, 3 * GIB),
        (gone + 1, 0),
    ]
    names = [entry["name"] for entry in gpu["processes"]]
    assert names[0] == "blender"
    assert "python" in names[1] or "pytest" in names[1]
    assert names[2] == f"process {gone + 1}"


def test_a_running_monitor_sees_changes_and_survives_a_lost_gpu(nvml_driver: NvmlDriver) -> None:
    both = StubDriver((RTX3090, replace(LAPTOP, nvlink=(0,))))
    env = nvml_driver(both)
    with looking(env) as child:
        assert [gpu["free_bytes"] for gpu in child.look()["gpus"]] == [23 * GIB, 5 * GIB]

        describe(env, replace(both, gpus=(replace(RTX3090, free_bytes=GIB, utilization=99), LAPTOP)))
        first = child.look()["gpus"][0]
        assert (first["free_bytes"], first["utilization"]) == (GIB, 99)

        describe(env, replace(both, gpus=(replace(RTX3090, lost=15), LAPTOP)))
        seen = child.look()
        assert [gpu["index"] for gpu in seen["gpus"]] == [1]
        assert seen["gpus"][0]["nvlink_peers"] == []
        assert codes(seen) == ["hardware.gpu_lost"]
        assert "GPU 0 (NVIDIA GeForce RTX 3090)" in seen["notes"][0][1]

        describe(env, both)
        assert [gpu["index"] for gpu in child.look()["gpus"]] == [0, 1]


def test_a_driver_that_comes_up_later_is_found(nvml_driver: NvmlDriver) -> None:
    env = nvml_driver(StubDriver(init_error=9))
    with looking(env) as child:
        assert child.look()["gpus"] == []
        describe(env, StubDriver((RTX3090,)))
        assert len(child.look()["gpus"]) == 1
        describe(env, StubDriver((RTX3090,), count_error=1))
        assert codes(child.look()) == ["hardware.driver_error"]
        describe(env, StubDriver((LAPTOP,)))
        assert [gpu["name"] for gpu in child.look()["gpus"]] == [LAPTOP.name]


UUIDS = ("GPU-aaaa1111", "GPU-aaaa2222", "GPU-bbbb3333", None)


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        pytest.param(None, (0, 1, 2, 3), id="no setting shows all"),
        pytest.param("2", (2,), id="one index"),
        pytest.param("3,1", (1, 3), id="in PCI order, whatever order is written"),
        pytest.param(" 0 , 2 ", (0, 2), id="spaces"),
        pytest.param("", (), id="an empty setting hides all"),
        pytest.param("-1", (), id="-1 hides all"),
        pytest.param("0,2,-1,1", (0, 2), id="what follows -1 is hidden"),
        pytest.param("1,9,0", (1,), id="what follows an index that does not exist is hidden"),
        pytest.param("GPU-bbbb", (2,), id="the beginning of a UUID"),
        pytest.param("GPU-aaaa", (), id="an ambiguous beginning names none"),
        pytest.param("GPU-aaaa2222,0", (0, 1), id="UUIDs and indices mixed"),
        pytest.param("GPU-", (), id="too short to name a GPU"),
        pytest.param("1,1", (), id="a GPU given twice makes the setting invalid"),
        pytest.param("MIG-12345678-0000", (), id="a MIG instance is no GPU"),
        pytest.param("none", (), id="a word"),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(setting: str | None, shown: tuple[int, ...]) -> None:
    assert visible(setting, UUIDS) == shown


def test_hidden_gpus_are_left_out_and_counted(nvml_driver: NvmlDriver) -> None:
    env = nvml_driver(HARDWARE_FILES / "four_3090_one_busy.json")
    seen = look(env, CUDA_VISIBLE_DEVICES="2,0")
    assert [gpu["index"] for gpu in seen["gpus"]] == [0, 2]
    assert [gpu["nvlink_peers"] for gpu in seen["gpus"]] == [[], []]
    assert codes(seen) == ["hardware.hidden"]
    assert seen["notes"][0][1] == "CUDA_VISIBLE_DEVICES is set to '2,0', which hides 2 of 4 GPUs."
    assert {"gpus[0].tflops_bf16", "gpus[1].tflops_bf16"} <= set(seen["assumed"])


def test_the_drivers_library_is_first_looked_for_when_asked() -> None:
    script = (
        "import sys; import backends.hardware.detect, backends.hardware.describe;"
        "assert 'pynvml' not in sys.modules; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
