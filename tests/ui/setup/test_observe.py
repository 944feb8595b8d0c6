"""What is seen of this machine, and what a description of another one may hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.nvml import NvmlDriver, StubDriver, StubGpu
from ui.setup.main import main

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("content", ["", "{", "[1]", "7", '"text"'])
def test_a_broken_description_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    file = tmp_path / "m.json"
    file.write_text(content, encoding="utf-8")
    assert main(["--dry-run", "--system", str(file)], str(ROOT)) == 2
    assert "can't be read" in capsys.readouterr().err
    assert main(["--dry-run", "--system", str(tmp_path / "absent.json")], str(ROOT)) == 2


def look(folder: Path, *arguments: str, **environ: str) -> str:
    """Return what --dry-run says of this machine, offline, with its environment in `folder`."""
    own = {"SNUG_VENV": str(folder), "SNUG_TORCH_INDEX": "http://127.0.0.1:9/", "PYTHONUTF8": "1"}
    answer = subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), "--dry-run", *arguments],
        env=os.environ | own | environ,
        capture_output=True,
        encoding="utf-8",
        check=True,
        cwd=folder.parent,
    )
    assert answer.stderr == ""
    return answer.stdout


def test_the_dry_run_of_this_machine_reads_well_and_changes_nothing(tmp_path: Path) -> None:
    venv = tmp_path / "环境 one"
    answer = look(venv, "plan", "starter")
    assert str(venv) in answer
    assert "Start Snug plan starter" in answer
    assert not venv.exists()


@pytest.mark.parametrize(
    ("driver", "build"),
    [
        pytest.param(StubDriver((StubGpu("RTX 3090", 24 << 30),)), "cu130", id="one GPU"),
        pytest.param(StubDriver((StubGpu("GTX 1080", 8 << 30, compute=(6, 1)),)), "cu126", id="Pascal"),
        pytest.param(
            StubDriver(
                (StubGpu("GTX 1080", 8 << 30, compute=(6, 1)), StubGpu("RTX 5090", 32 << 30, compute=(12, 0)))
            ),
            "cu130",
            id="the best of two counts",
        ),
        pytest.param(
            StubDriver((StubGpu("RTX 3090", 24 << 30),), driver_version="550.54.14"),
            "cu126",
            id="older driver",
        ),
        pytest.param(
            StubDriver((StubGpu("RTX 3090", 24 << 30),), init_error=9), "cpu", id="driver not loaded"
        ),
        pytest.param(StubDriver(()), "cpu", id="driver without a GPU"),
    ],
)
def test_the_driver_is_asked(tmp_path: Path, nvml_driver: NvmlDriver, driver: StubDriver, build: str) -> None:
    answer = look(tmp_path / "venv", "--json", **nvml_driver(driver))
    assert json.loads(answer)["torch"] == build
