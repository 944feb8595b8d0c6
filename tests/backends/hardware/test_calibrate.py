"""Measured figures of the machine, and their cache file."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from backends.hardware import calibrate
from backends.hardware.calibrate import Calibration, GpuSpeed
from backends.hardware.detect import detect
from backends.hardware.types import Cpu, Disk, Gpu, HardwareSnapshot, Ram

GIB = 1024**3
CARD = Gpu(0, "A Card", 8 * GIB, 7 * GIB, (8, 9), uuid="GPU-1", memory_gbps=200.0)
MACHINE = HardwareSnapshot(
    "linux",
    (CARD,),
    Ram(16 * GIB, 12 * GIB, memory_gbps=15.0),
    Cpu("A Processor", 2, ("avx2",), 100.0),
    Disk("/home/snug", 100 * GIB, 1.0),
    assumed=("gpus[0].memory_gbps", "ram.memory_gbps", "cpu.gflops_fp32", "disk.read_gbps"),
)
SPEED = GpuSpeed(0, "A Card", "GPU-1", 250.0, 12.0, 6.0, 30.0, 15.0)
FIGURES = Calibration(
    "A Processor", 2, 21.5, 180.0, disk="/home/snug", gflops_bf16=400.0, vector_gbps_fp32=20.0,
    vector_gbps_bf16=15.0, disk_gbps=2.5, gpus=(SPEED,),
)  # fmt: skip
WRITTEN: dict[str, Any] = json.loads(json.dumps(asdict(FIGURES)))


def test_measured_figures_are_those_of_a_computer(tmp_path: Path) -> None:
    here = replace(detect(tmp_path), gpus=())

    found = calibrate.measure_apart(here, {"GOMP_SPINCOUNT": "1000"}, scale=0.1)

    assert (found.cpu, found.cores, found.gpus) == (here.cpu.name, here.cpu.cores, ())
    # From a busy two-core virtual machine to a large server.
    assert 0.01 < found.ram_gbps < 5_000
    for figure in (found.gflops_fp32, found.gflops_bf16, found.vector_gbps_fp32, found.vector_gbps_bf16):
        assert figure is not None
        assert 0.001 < figure < 1_000_000
    assert list(tmp_path.iterdir()) == []


MEASURING = """
import sys
from pathlib import Path
from backends.hardware import calibrate
from backends.hardware.detect import detect

if __name__ == "__main__":
    print("begun", flush=True)
    calibrate.measure_apart(detect(Path(sys.argv[1])), scale=1000.0)
"""


@pytest.fixture
def measuring(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    """A program that measures for minutes, and the process it does that in."""
    program = [sys.executable, "-c", MEASURING, str(tmp_path)]
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(program, text=True, stdout=pipe, stderr=pipe) as parent,
        contextlib.ExitStack() as ended,
    ):
        ended.callback(parent.kill)
        assert parent.stdout is not None
        assert parent.stdout.readline() == "begun\n"
        child = _child_of(parent)
        ended.callback(_kill, child)
        yield parent, child


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def _child_of(parent: subprocess.Popen[str]) -> psutil.Process:
    while parent.poll() is None:
        for child in psutil.Process(parent.pid).children():
            with contextlib.suppress(psutil.Error):
                if "spawn_main" in " ".join(child.cmdline()):
                    return child
    raise AssertionError("it ended before it measured")


@pytest.mark.parametrize("ended_by", ["terminate", "kill"])
def test_measuring_ends_with_the_program_that_wants_it(
    measuring: tuple[subprocess.Popen[str], psutil.Process], ended_by: str
) -> None:
    parent, child = measuring

    getattr(parent, ended_by)()

    assert psutil.wait_procs([child], timeout=60)[1] == []


def test_a_measuring_process_that_is_ended_is_an_error_not_a_wait(
    measuring: tuple[subprocess.Popen[str], psutil.Process],
) -> None:
    parent, child = measuring

    child.kill()

    assert "the process that measures ended early" in parent.communicate(timeout=60)[1]


def test_measured_figures_are_no_longer_assumed() -> None:
    after = calibrate.apply(MACHINE, FIGURES)

    assert (after.ram.memory_gbps, after.disk.read_gbps) == (21.5, 2.5)
    assert (after.cpu.gflops_fp32, after.cpu.gflops_bf16) == (180.0, 400.0)
    assert (after.cpu.vector_gbps_fp32, after.cpu.vector_gbps_bf16) == (20.0, 15.0)
    card = after.gpus[0]
    assert (card.memory_gbps, card.pcie_gbps, card.pageable_gbps) == (250.0, 12.0, 6.0)
    assert (card.tflops_bf16, card.tflops_fp32) == (30.0, 15.0)
    assert after.assumed == ()
    assert calibrate.apply(MACHINE, None) == MACHINE


@pytest.mark.parametrize(
    ("machine", "calibration", "assumed"),
    [
        pytest.param(
            MACHINE, replace(FIGURES, gpus=()), "gpus[0].memory_gbps", id="a card that had no room"
        ),
        pytest.param(
            replace(MACHINE, gpus=(replace(CARD, uuid="GPU-2"),)), FIGURES, "gpus[0].memory_gbps",
            id="another card of the same kind",
        ),
        pytest.param(MACHINE, replace(FIGURES, disk_gbps=None), "disk.read_gbps", id="a full disk"),
        pytest.param(
            replace(MACHINE, disk=Disk("D:/snug", GIB, 1.0)), FIGURES, "disk.read_gbps", id="another disk"
        ),
    ],
)  # fmt: skip
def test_what_was_not_measured_stays_assumed(
    machine: HardwareSnapshot, calibration: Calibration, assumed: str
) -> None:
    after = calibrate.apply(machine, calibration)

    assert after.assumed == (assumed,)
    assert (after.gpus[0].memory_gbps, after.disk.read_gbps) != (250.0, 2.5)


def test_cards_without_a_uuid_are_known_by_index_and_name() -> None:
    anonymous = replace(MACHINE, gpus=(replace(CARD, uuid=None),))
    assert calibrate.apply(anonymous, FIGURES).gpus[0].memory_gbps == 250.0
    assert calibrate.apply(
        replace(anonymous, gpus=(replace(CARD, uuid=None, index=1),)), FIGURES
    ).gpus[0].memory_gbps == 200.0  # fmt: skip


@pytest.mark.parametrize(
    ("calibration", "machine", "complete"),
    [
        pytest.param(None, MACHINE, False, id="nothing was measured yet"),
        pytest.param(FIGURES, MACHINE, True, id="everything was"),
        pytest.param(replace(FIGURES, gpus=()), MACHINE, False, id="a card has room now"),
        pytest.param(
            replace(FIGURES, gpus=()), replace(MACHINE, gpus=(replace(CARD, free_bytes=GIB),)), True,
            id="a card that still has none",
        ),
        pytest.param(
            replace(FIGURES, gpus=()), replace(MACHINE, gpus=(replace(CARD, compute_capability=None),)), True,
            id="a card that torch can't be asked about",
        ),
        pytest.param(replace(FIGURES, crowded=True), MACHINE, False, id="other programs were in the way"),
    ],
)  # fmt: skip
def test_measuring_is_repeated_while_something_is_left_to_find_out(
    calibration: Calibration | None, machine: HardwareSnapshot, *, complete: bool
) -> None:
    assert calibrate.is_complete(calibration, machine) is complete


def test_a_later_measurement_replaces_the_earlier_one_and_keeps_its_other_cards() -> None:
    other = replace(SPEED, index=1, uuid="GPU-9")
    before = replace(FIGURES, gpus=(SPEED, other))
    now = replace(FIGURES, ram_gbps=30.0, gpus=(replace(SPEED, pcie_gbps=24.0),))

    found = calibrate.merged(before, now)

    assert found.ram_gbps == 30.0
    assert found.gpus == (replace(SPEED, pcie_gbps=24.0), other)
    assert calibrate.merged(None, now) == now


def test_a_crowded_measurement_only_ever_improves_figures() -> None:
    low = replace(FIGURES, crowded=True, ram_gbps=3.0, gflops_bf16=500.0, disk_gbps=None)

    found = calibrate.merged(FIGURES, low)

    assert (found.ram_gbps, found.gflops_bf16, found.disk_gbps) == (21.5, 500.0, 2.5)
    assert not found.crowded
    assert calibrate.merged(low, FIGURES) == FIGURES


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "校准.json"
    calibrate.save(path, FIGURES)
    calibrate.save(path, FIGURES)
    assert calibrate.load(path, MACHINE) == FIGURES
    assert [entry.name for entry in path.parent.iterdir()] == ["校准.json"]


def test_figures_of_a_card_or_a_disk_that_is_gone_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    calibrate.save(path, FIGURES)

    found = calibrate.load(path, replace(MACHINE, gpus=(), disk=Disk("E:/", GIB)))

    assert found == replace(FIGURES, gpus=(), disk_gbps=None)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'{"cpu": "A Processor"}', id="keys missing"),
        pytest.param(
            b'{"cpu": "A Processor", "cores": 2, "ram_gbps": 21.5, "gflops_fp32": 180.0}', id="an older file"
        ),
        pytest.param(json.dumps({**WRITTEN, "more": 1}).encode(), id="a key too many"),
        pytest.param(json.dumps({**WRITTEN, "cores": 4}).encode(), id="other share of the processor"),
        pytest.param(json.dumps({**WRITTEN, "cpu": "Another"}).encode(), id="another processor"),
        pytest.param(json.dumps({**WRITTEN, "ram_gbps": 0}).encode(), id="zero"),
        pytest.param(json.dumps({**WRITTEN, "ram_gbps": "fast"}).encode(), id="text for a figure"),
        pytest.param(json.dumps({**WRITTEN, "gflops_fp32": float("inf")}).encode(), id="infinite"),
        pytest.param(json.dumps({**WRITTEN, "disk_gbps": -1}).encode(), id="negative"),
        pytest.param(json.dumps({**WRITTEN, "gflops_bf16": True}).encode(), id="true for a figure"),
        pytest.param(json.dumps({**WRITTEN, "crowded": "no"}).encode(), id="text for a flag"),
        pytest.param(json.dumps({**WRITTEN, "disk": 7}).encode(), id="a number for a path"),
        pytest.param(json.dumps({**WRITTEN, "gpus": {"0": 1}}).encode(), id="cards that are no list"),
        pytest.param(json.dumps({**WRITTEN, "gpus": [{"index": 0}]}).encode(), id="half a card"),
        pytest.param(
            json.dumps({**WRITTEN, "gpus": [{**asdict(SPEED), "pcie_gbps": 0}]}).encode(), id="a dead bus"
        ),
    ],
)
def test_a_file_that_is_damaged_or_of_another_machine_is_ignored(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "calibration.json"
    path.write_bytes(content)
    assert calibrate.load(path, MACHINE) is None


def test_no_file_is_no_calibration(tmp_path: Path) -> None:
    assert calibrate.load(tmp_path / "missing.json", MACHINE) is None
