"""The service's log never becomes the person's trouble."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from backends.service import journal
from backends.service.journal import Journal


def test_a_record_makes_the_file(tmp_path: Path) -> None:
    made = Journal(tmp_path / "logs")
    assert not (tmp_path / "logs").exists()
    logging.getLogger("snug.test").warning("something 奇怪")
    made.close()
    (file,) = (tmp_path / "logs").iterdir()
    assert "something 奇怪" in file.read_text(encoding="utf-8")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_full_disk_stays_off_the_console(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(journal, "new_log", lambda *_, **__: Path("/dev/full"))
    made = Journal(tmp_path)
    logging.getLogger("snug.test").warning("lost")
    made.close()
    assert capfd.readouterr().err == ""
