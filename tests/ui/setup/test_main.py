"""A start as a person sees it: warm, interrupted, refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ui.setup.main import main
from ui.setup.places import possible_folders

ROOT = Path(__file__).parents[3]


def start(root: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(root / "launch.py"), *arguments],
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_a_warm_start_hands_over_at_once_and_keeps_the_persons_folder(
    copy_of_snug: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "ui").mkdir(parents=True)  # must not shadow ours
    done = start(copy_of_snug, "plan", "./my model", "模型", cwd=elsewhere)
    arguments, cwd, program, cwd_in_path, utf8 = eval(done.stdout)
    assert (arguments, cwd) == (["plan", "./my model", "模型"], str(elsewhere))
    assert (program, cwd_in_path, utf8) == ("launch.py", False, 1)
    assert done.returncode == 5
    assert done.stderr == ""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_in_the_program_ends_with_130_and_no_traceback(copy_of_snug: Path) -> None:
    with subprocess.Popen(
        [sys.executable, str(copy_of_snug / "launch.py"), "web"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_a_persons_own_folder_is_never_touched(
    copy_of_snug: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cat.jpg").touch()
    monkeypatch.setenv("SNUG_VENV", str(photos))
    assert main(["doctor"], str(ROOT)) == 2
    assert "in use for something else" in capsys.readouterr().err
    assert [entry.name for entry in photos.iterdir()] == ["cat.jpg"]


def test_a_place_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SNUG_VENV", str(tmp_path / "file" / "venv"))
    monkeypatch.setenv("SNUG_TORCH_INDEX", "http://127.0.0.1:9/")
    assert main(["doctor"], str(ROOT)) == 3
    shown = capsys.readouterr().err
    assert str(tmp_path / "file" / "venv") in shown
    assert "SNUG_VENV" in shown


def test_a_named_environment_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SNUG_VENV", raising=False)
    assert len(possible_folders(str(ROOT))) == 2
    monkeypatch.setenv("SNUG_VENV", "there")
    assert possible_folders(str(ROOT)) == [str(Path.cwd() / "there")]


def test_a_mistyped_command_touches_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tset"], str(tmp_path)) == 2
    assert "launch.py test" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


IMPORTS = """
import os, sys
sys.path.insert(0, {root!r})
before = set(sys.modules)
from ui.setup.main import main
os.execv = lambda *_: sys.exit(0)
try:
    main(["web"], {root!r})
finally:
    print(*sorted(set(sys.modules) - before))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows needs subprocess to hand over")
def test_a_warm_start_imports_little(copy_of_snug: Path) -> None:
    code = IMPORTS.format(root=str(copy_of_snug))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    imported = set(done.stdout.split())
    names = ("main", "options", "problems", "places", "stamp", "handover")
    assert {name for name in imported if name.startswith("ui.setup.")} == {
        f"ui.setup.{name}" for name in names
    }
    heavy = {"ctypes", "dataclasses", "inspect", "pathlib", "shutil", "subprocess", "tomllib", "urllib"}
    assert not imported & heavy
