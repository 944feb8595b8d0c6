"""Measured figures of the CPU and RAM, and their cache file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backends.hardware import calibrate
from backends.hardware.calibrate import Calibration
from backends.hardware.detect import detect
from backends.hardware.types import Cpu

CPU = Cpu("A Processor", 2, ("avx2",), 100.0)
FIGURES = Calibration("A Processor", 2, 21.5, 180.0)
WRITTEN: dict[str, Any] = {"cpu": "A Processor", "cores": 2, "ram_gbps": 21.5, "gflops_fp32": 180.0}


def test_measured_figures_are_those_of_a_computer() -> None:
    found = calibrate.measure(CPU, seconds=0.1)
    assert (found.cpu, found.cores) == ("A Processor", 2)
    # From a busy two-core virtual machine to a large server.
    assert 0.1 < found.ram_gbps < 5_000
    assert 0.1 < found.gflops_fp32 < 1_000_000


def test_measured_figures_are_no_longer_assumed(tmp_path: Path) -> None:
    before = detect(tmp_path)
    after = calibrate.apply(before, FIGURES)
    assert (after.ram.memory_gbps, after.cpu.gflops_fp32) == (21.5, 180.0)
    assert {"ram.memory_gbps", "cpu.gflops_fp32"} == set(before.assumed) - set(after.assumed)
    assert calibrate.apply(before, None) == before


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "校准.json"
    calibrate.save(path, FIGURES)
    calibrate.save(path, FIGURES)
    assert calibrate.load(path, CPU) == FIGURES
    assert [entry.name for entry in path.parent.iterdir()] == ["校准.json"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'{"cpu": "A Processor"}', id="keys missing"),
        pytest.param(json.dumps({**WRITTEN, "more": 1}).encode(), id="a key too many"),
        pytest.param(json.dumps({**WRITTEN, "cores": 4}).encode(), id="other share of the processor"),
        pytest.param(json.dumps({**WRITTEN, "cpu": "Another"}).encode(), id="another processor"),
        pytest.param(json.dumps({**WRITTEN, "ram_gbps": 0}).encode(), id="zero"),
        pytest.param(json.dumps({**WRITTEN, "ram_gbps": "fast"}).encode(), id="text for a figure"),
        pytest.param(json.dumps({**WRITTEN, "gflops_fp32": float("inf")}).encode(), id="infinite"),
    ],
)
def test_a_file_that_is_damaged_or_of_another_machine_is_ignored(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "calibration.json"
    path.write_bytes(content)
    assert calibrate.load(path, CPU) is None


def test_no_file_is_no_calibration(tmp_path: Path) -> None:
    assert calibrate.load(tmp_path / "missing.json", CPU) is None
