"""Reading a disk past the cache."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from backends.hardware.disk_speed import measure_disk


def test_a_disk_has_a_speed_and_keeps_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "a folder 盘"

    found = measure_disk(folder, 0.05)

    assert found is None or 0.0001 < found < 1000
    assert list(folder.iterdir()) == []


def test_a_place_that_can_not_be_written_has_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert measure_disk(tmp_path / "file", 0.05) is None


@pytest.mark.skipif(not Path("/dev/shm").is_dir() or sys.platform != "linux", reason="no disk in memory")
def test_a_file_system_in_memory_is_no_disk() -> None:
    assert measure_disk(Path("/dev/shm"), 0.05) is None
