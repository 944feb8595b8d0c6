"""The folder for weights on the disk: ours alone, checked for space, gone afterwards, also after a crash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from backends.engines.offload import OffloadFolder, sweep
from backends.errors import DiskFull, FolderReadOnly


def test_it_is_made_and_removed_with_what_was_made_for_it(tmp_path: Path) -> None:
    folder = OffloadFolder(tmp_path / "new 新" / "deep")
    folder.file("model.layers.3").write_bytes(b"weights")
    assert folder.holds(folder.file("x"))
    folder.remove()
    assert list(tmp_path.iterdir()) == []
    folder.remove()


def test_a_folder_of_the_person_keeps_everything_that_is_in_it(tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.docx"
    thesis.write_text("years of work", encoding="utf-8")
    (tmp_path / "snug-weights-of-mine").mkdir()
    folder = OffloadFolder(tmp_path)
    folder.file("layer").write_bytes(b"weights")
    folder.remove()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["snug-weights-of-mine", "thesis.docx"]


def test_too_little_space_is_told_with_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = OffloadFolder(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3 << 30))
    folder.check(0)
    folder.check(2 << 30)
    with pytest.raises(DiskFull) as caught:
        folder.check(5 << 30)
    assert caught.value.values == {"path": str(tmp_path), "needed_bytes": 5 << 30, "free_bytes": 3 << 30}


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder", encoding="utf-8")
    with pytest.raises(FolderReadOnly, match="file"):
        OffloadFolder(blocked / "offload")
    assert blocked.read_text(encoding="utf-8") == "not a folder"


def test_what_a_crashed_process_left_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from backends.engines.offload import OffloadFolder;"
        "OffloadFolder(Path(sys.argv[1])).file('layer').write_bytes(b'weights'); os._exit(70)"
    )
    crashed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=240)
    assert crashed.returncode == 70
    (left,) = tmp_path.iterdir()
    ours = OffloadFolder(tmp_path)
    assert not left.exists()
    sweep(tmp_path)
    assert ours.path.is_dir()


def test_a_number_that_another_process_has_got_since_protects_nothing(tmp_path: Path) -> None:
    begun = int(psutil.Process().create_time())
    mine, older = (tmp_path / f"snug-weights-{os.getpid()}-{when}-x" for when in (begun, begun - 1000))
    mine.mkdir()
    older.mkdir()
    sweep(tmp_path)
    assert (mine.exists(), older.exists()) == (True, False)
