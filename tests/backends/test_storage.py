"""A folder that can't be written is noticed before anything relies on it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from backends.errors import DiskFull, FolderReadOnly, MachineError
from backends.storage import ensure_writable, storage_error


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    folder = tmp_path / "家 with spaces" / "uploads"
    ensure_writable(folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("taken", ["home", "home/uploads"])
def test_a_file_in_the_way_is_explained(taken: str, tmp_path: Path) -> None:
    (tmp_path / taken).parent.mkdir(exist_ok=True)
    (tmp_path / taken).write_text("in the way", encoding="utf-8")
    with pytest.raises(FolderReadOnly, match="SNUG_HOME"):
        ensure_writable(tmp_path / "home" / "uploads")


@pytest.mark.parametrize(
    ("number", "means"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EDQUOT, DiskFull),
        (errno.EROFS, FolderReadOnly),
        (errno.EACCES, FolderReadOnly),
    ],
    ids=errno.errorcode.get,
)
def test_a_failed_write_is_told_by_its_cause(number: int, means: type[MachineError], tmp_path: Path) -> None:
    error = storage_error(OSError(number, os.strerror(number)), tmp_path / "not there", 1 << 20)
    assert isinstance(error, means)
    assert "not there" in str(error)
