"""Files past the system's cache: opened where that is possible, None where not, an error without a file."""

from __future__ import annotations

import errno
import mmap
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from backends.hardware.uncached import ALIGNED, open_uncached


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "权重 1.bin"
    path.write_bytes(bytes(range(256)) * 64)
    return path


def test_what_is_read_is_what_was_written(file: Path) -> None:
    stream = open_uncached(file)
    if stream is None:
        pytest.skip("this file system has no way past the cache")
    with stream, mmap.mmap(-1, 2 * ALIGNED) as memory, memoryview(memory) as block:
        stream.seek(ALIGNED)
        assert stream.readinto(block) == 2 * ALIGNED
        assert bytes(block) == file.read_bytes()[ALIGNED : 3 * ALIGNED]
        assert Path(str(stream.name)) == file


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_uncached(tmp_path / "nothing")


@pytest.mark.skipif(sys.platform != "linux", reason="O_DIRECT is Linux's")
def test_a_file_system_that_refuses_is_told_by_none(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older in-memory and network file systems answer so."""
    before = os.open

    def refusing(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return before(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", refusing)

    assert open_uncached(file) is None
