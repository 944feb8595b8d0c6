"""`plan` answers for GGUF files; `ask` says that they can't be loaded yet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import gguf_files
from ui.cli import main

HARDWARE = Path(__file__).parents[2] / "hardware"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNUG_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(
    ("preset", "hardware", "verdict", "gpu_layers"),
    [
        ("cpu", "no_gpu_32gb", "fits", 0),
        ("low", "laptop_6gb", "fits", 29),
        ("high", "rtx3090", "fits", 32),
        ("high", "laptop_6gb", "no", 32),
    ],
)
def test_plan(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    preset: str,
    hardware: str,
    verdict: str,
    gpu_layers: int,
) -> None:
    model = gguf_files.llava_15_7b(tmp_path / "my models 模型")
    machine = str(HARDWARE / f"{hardware}.json")

    assert main(["plan", str(model), "--hardware", machine, "--preset", preset, "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["model"] == {
        "path": str(model),
        "family": "llama",
        "parameters": 7_050_535_936,
        "layers": 32,
        "format": "gguf",
    }
    assert (found["engine"], found["precision"]) == ("llamacpp", "q4_k_m")
    assert (found["verdict"], found["gpu_layers"]) == (verdict, gpu_layers)
    assert found["image_tokens"] == 576
    for device in found["devices"]:
        parts = ("weights", "kv_cache", "activation", "staging", "overhead")
        assert device["total_bytes"] == sum(device[f"{part}_bytes"] for part in parts)


def test_plan_in_words_and_in_chinese(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(gguf_files.llava_15_7b(tmp_path))
    machine = str(HARDWARE / "laptop_6gb.json")

    assert main(["plan", model, "--hardware", machine, "--needs"]) == 0
    assert "llama.cpp · 4-bit (Q4_K_M)" in capsys.readouterr().out
    monkeypatch.setenv("SNUG_LANG", "zh")
    assert main(["plan", model, "--hardware", machine, "--needs"]) == 0
    assert "能放下整个文件的最小显卡是" in capsys.readouterr().out


def test_an_mmproj_that_arrives_later_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = gguf_files.llava_15_7b(tmp_path, pictures=False)

    def tokens() -> int:
        machine = str(HARDWARE / "no_gpu_32gb.json")
        assert main(["plan", str(model), "--hardware", machine, "--json"]) == 0
        return int(json.loads(capsys.readouterr().out)["image_tokens"])

    assert tokens() == 0
    gguf_files.llava_15_7b(tmp_path)
    assert tokens() == 576


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("ask", "hello"), "The weight files hold their headers only"),
        (("plan", "--set", "precision=nf4"), "the precision it was made with"),
    ],
)
def test_what_it_can_not_do_is_said_in_three_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], why: str
) -> None:
    model = str(gguf_files.llava_15_7b(tmp_path))

    assert main([command[0], model, *command[1:]]) == 2

    error = capsys.readouterr().err.strip().splitlines()
    assert [line.partition(":")[0] for line in error] == ["error", "why", "try"]
    assert why in error[1]


def test_a_broken_file_is_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + bytes(100))

    assert main(["plan", str(path)]) == 2
    assert "Get the same model as a GGUF file of today" in capsys.readouterr().err
