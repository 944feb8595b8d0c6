"""`plan` and `ask` on checkpoints in their authors' own layouts, as a person types them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.originals import FIXTURES, Asked, one_of_each

ROOT = Path(__file__).parents[3]


def snug(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """One command in a process of its own, run from the person's folder."""
    environment = {**os.environ, "SNUG_HOME": str(home / "home"), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "ui.cli", *words],
        cwd=home,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("asked", one_of_each(), ids=str)
def test_asking_gives_the_originals_tokens(asked: Asked, tmp_path: Path) -> None:
    written = tmp_path / "messages.json"
    written.write_text(json.dumps(asked.content), encoding="utf-8")
    words = ["ask", str(asked.folder), "--messages", str(written), "--temperature", "0", "--max-tokens", "16"]
    words += ["--set", f"template={asked.template}"] if asked.template else []
    done = snug(tmp_path, *words, "--set", "precision=fp32", "--json")
    assert done.returncode == 0, done.stderr
    assert tuple(json.loads(done.stdout)["token_ids"]) == asked.greedy_ids


@pytest.mark.parametrize("asked", one_of_each(), ids=str)
def test_planning_places_every_part(asked: Asked, tmp_path: Path) -> None:
    done = snug(tmp_path, "plan", str(asked.folder), "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["verdict"] == "fits"
    assert made["engine"] == "transformers"
    assert made["model"]["parameters"] > 100_000
    assert set(made["device_map"].values()) == {"cpu"}
    assert (made["image_tokens"] > 0) == (asked.fixture != "chatglm3-6b")


@pytest.fixture
def lonely(tmp_path: Path) -> tuple[Path, Path]:
    """A LoRA alone in a folder with a space; its base is in another place, its vision tower in a third."""
    away = tmp_path / "else where 别处"
    shutil.copytree(FIXTURES / "llava-v1.5-lora" / "checkpoint", away)
    moved = tmp_path / "my lora"
    shutil.move(away / "llava-v1.5-7b-tiny-lora", moved)
    shutil.move(away / "openai", tmp_path / "towers")
    return moved, away


def test_what_it_leans_on_is_named_by_hand(lonely: tuple[Path, Path], tmp_path: Path) -> None:
    moved, away = lonely
    alone = snug(tmp_path, "plan", str(moved), "--json")
    assert alone.returncode == 2
    assert "--set base=PATH" in alone.stderr
    assert "Traceback" not in alone.stderr
    base = f"base={away / 'vicuna-7b-v1.5-tiny'}"
    towerless = snug(tmp_path, "plan", str(moved), "--json", "--set", base)
    assert towerless.returncode == 2
    assert "--set vision_tower=PATH" in towerless.stderr
    asked = next(one for one in one_of_each() if one.fixture == "llava-v1.5-lora")
    (tmp_path / "m.json").write_text(json.dumps(asked.content), encoding="utf-8")
    tower = next((tmp_path / "towers").iterdir())
    words = ["--set", base, "--set", f"vision_tower={tower}", "--set", "precision=fp32"]
    words += ["--messages", "m.json", "--temperature", "0", "--max-tokens", "16", "--json"]
    done = snug(tmp_path, "ask", str(moved), *words)
    assert done.returncode == 0, done.stderr
    assert tuple(json.loads(done.stdout)["token_ids"]) == asked.greedy_ids
