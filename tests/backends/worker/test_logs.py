"""Where logs go and how many are kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from backends.worker.logs import new_log, tail


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "日志 logs"
    made = [new_log(folder, keep=3) for _ in range(5)]
    assert sorted(folder.iterdir()) == sorted(made[2:])


def test_other_files_in_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.log").touch()
    for _ in range(3):
        new_log(tmp_path, keep=1)
    assert (tmp_path / "notes.log").exists()


def test_a_folder_that_cannot_be_written_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "a file, not a folder"
    blocked.touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    log = new_log(blocked / "logs")
    assert log.is_relative_to(tmp_path / "temp")
    assert log.exists()


def test_without_any_folder_there_is_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "a file"
    blocked.touch()
    monkeypatch.setattr("tempfile.tempdir", str(blocked))
    assert str(new_log(blocked)) == os.devnull


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_bytes(b"x" * 1000 + "末尾 end".encode() + b"\xff")
    assert tail(log, limit=12).endswith("end\N{REPLACEMENT CHARACTER}")
    assert tail(tmp_path / "missing.log") == ""


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a folder that refuses us")
def test_a_read_only_folder_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o500)
    monkeypatch.setattr("tempfile.tempdir", None)
    assert not new_log(tmp_path / "logs").is_relative_to(tmp_path)
