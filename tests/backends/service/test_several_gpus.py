"""Several GPUs and one of them runs out: the same card is named, relieved and learnt of everywhere.

The stub driver shows the cards to the real pynvml, a real child process runs out, and everything on the way
from its error to the table of corrections is the service's own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import checkpoints
from tests.support.nvml import HARDWARE_FILES, NvmlDriver

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 GB of weights: more than one card of 11 GB holds."""
    return checkpoints.llava_15_7b(tmp_path_factory.mktemp("models") / "llava")


def run(env: dict[str, str], home: Path, model: Path, gpus: str, word: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.one_of_several", str(model), gpus, word],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env, "SNUG_HOME": str(home)},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("guilty", "other"), [(2, 3), (3, 2)])
def test_cards_2_and_3_of_8(
    guilty: int, other: int, model: Path, nvml_driver: NvmlDriver, tmp_path: Path
) -> None:
    env = nvml_driver(HARDWARE_FILES / "eight_11gb.json")
    found = run(env, tmp_path, model, "2,3", f"oom-gpu:{guilty}")
    assert found["visible"] == [2, 3]
    assert found["said"] == f"NVIDIA GeForce RTX 2080 Ti (GPU {guilty}) ran out of memory while answering."
    assert any(f"(GPU {guilty})" in cost for cost in found["costs"])
    assert not any(f"(GPU {other})" in cost for cost in found["costs"])
    assert found["learnt"] == [f"cuda:{guilty}"]


def test_card_2_of_4(model: Path, nvml_driver: NvmlDriver, tmp_path: Path) -> None:
    env = nvml_driver(HARDWARE_FILES / "four_3090_one_busy.json")
    found = run(env, tmp_path, model, "2", "oom-gpu:2")
    assert found["visible"] == [2]
    assert "(GPU 2) ran out" in found["said"]
    assert found["learnt"] == ["cuda:2"]
    assert found["overhead_again"]["cuda:2"] > found["overhead"]["cuda:2"]


def test_a_card_that_nobody_names_is_not_guessed(
    model: Path, nvml_driver: NvmlDriver, tmp_path: Path
) -> None:
    env = nvml_driver(HARDWARE_FILES / "eight_11gb.json")
    found = run(env, tmp_path, model, "2,3", "oom-gpu:?")
    assert found["said"] == "A GPU ran out of memory while answering."
    assert found["costs"], "the next step is offered all the same"
    assert found["learnt"] == []
