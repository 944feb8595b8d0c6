"""The most RAM this very process has held."""

from __future__ import annotations

import mmap
import sys
import time
from pathlib import Path

import pytest

from backends.reports import DevicePeak
from backends.worker.peak import RamPeak, resident_weights

MIB = 2**20
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


def written(mib: int) -> mmap.mmap:
    """Fresh memory, every page written; an allocator could hand out what the process holds already."""
    pages = mmap.mmap(-1, mib * MIB)
    for at in range(0, len(pages), mmap.PAGESIZE):
        pages[at] = 1
    return pages


def hold(mib: int) -> None:
    """Hold memory for a moment."""
    written(mib).close()


@LINUX
def test_the_kernels_peak_begins_anew() -> None:
    peak = RamPeak()
    hold(200)
    peak.begin()
    calm = peak.read()
    hold(100)
    after = peak.read()
    assert after - calm > 80 * MIB
    peak.begin()
    assert peak.read() < after - 50 * MIB


def test_where_no_kernel_helps_tasks_are_watched(tmp_path: Path) -> None:
    """As on Windows: a folder without /proc's files."""
    peak = RamPeak(tmp_path / "none")
    peak.begin()
    before = peak.read()
    with peak.watched():
        held = written(120)
        limit = time.monotonic() + 20
        while peak._sampled < before + 80 * MIB and time.monotonic() < limit:
            time.sleep(0.01)
        held.close()
    assert peak.read() >= before + 80 * MIB


def test_nothing_is_watched_before_a_model_is_ready(tmp_path: Path) -> None:
    peak = RamPeak(tmp_path / "none")
    with peak.watched():
        assert peak._sampled == 0


def test_only_rams_figures_are_completed() -> None:
    peak = RamPeak()
    peak.begin()
    gpu = DevicePeak("cuda:0", 5, 4, 3, 2)
    assert peak.completed(gpu) is gpu
    ram = peak.completed(DevicePeak("cpu", 5))
    assert (ram.weights_bytes, ram.mapped_bytes) == (5, 0)
    assert ram.peak_bytes > 10 * MIB


@LINUX
def test_resident_pages_of_mapped_weight_files_are_found(tmp_path: Path) -> None:
    before = resident_weights()
    for name in ("权重 model.safetensors", "other.dat"):
        (tmp_path / name).write_bytes(b"\x01" * (8 * MIB))
    with (
        (tmp_path / "权重 model.safetensors").open("rb") as ours,
        (tmp_path / "other.dat").open("rb") as other,
        mmap.mmap(ours.fileno(), 0, access=mmap.ACCESS_READ) as weights,
        mmap.mmap(other.fileno(), 0, access=mmap.ACCESS_READ) as rest,
    ):
        assert sum(rest[:: mmap.PAGESIZE]) > 0
        sum(weights[: 4 * MIB : mmap.PAGESIZE])
        half = resident_weights() - before
        sum(weights[:: mmap.PAGESIZE])
        assert 4 * MIB <= half <= resident_weights() - before
        assert resident_weights() - before == 8 * MIB
    assert resident_weights() == before


def test_a_system_without_maps_tells_nothing(tmp_path: Path) -> None:
    assert resident_weights(tmp_path / "none") == 0
