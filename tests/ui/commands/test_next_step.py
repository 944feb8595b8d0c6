"""`ask` runs out of memory: exit code 3, and a next step that really works when it is pasted."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backends.placement.types import Overrides, PlanRequest
from backends.presets import Preset
from backends.service import Service
from tests.support import checkpoints
from ui.cli import main
from ui.commands import ask
from ui.commands.next_step import command

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="reads the command as a POSIX shell does")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A small model in a folder with a space, answered by the engine that obeys words."""
    monkeypatch.setenv("SNUG_HOME", str(tmp_path / "家 home"))
    monkeypatch.setattr(ask, "Service", partial(Service, engine="fake", preload=False))
    return str(checkpoints.starter_like(tmp_path / "my model"))


def test_the_pasted_command_answers(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["ask", model, "--preset", "cpu", "--json", "--seed", "7", "is it $HOME? oom-while-fp32"])
    told = capsys.readouterr()

    assert code == 3
    assert told.out == ""
    lines = told.err.strip().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "why", "try"]
    assert lines[0] == "error: The machine ran out of memory while answering."
    assert lines[1] == "why: 4.0 MB were needed and 1.0 MB were free."
    assert lines[2].startswith("try: Use 16-bit weights. bf16 instead of fp32: the answers are as good.")

    words = shlex.split(lines[2].partition("Run: ")[2])
    assert words[:3] == ["python", "launch.py", "ask"]
    assert main(words[2:]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["precision"] == "bf16"
    assert answer["answer"].endswith("You said: is it $HOME? oom-while-fp32")


def test_nothing_more_to_try_is_said_plainly(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["ask", model, "--preset", "cpu", "oom"])
    told = capsys.readouterr()

    assert code == 3
    assert told.err.strip().splitlines()[-1] == (
        "try: There is nothing more to try with this model here. Close other programs, or choose a smaller "
        "model."
    )
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    ("request_", "given", "expected"),
    [
        pytest.param(
            PlanRequest("a b", Preset.CUSTOM, Overrides(gpu_layers=20, precision="int8", image_tokens=320)),
            {},
            "python launch.py ask 'a b' --preset custom --set gpu_layers=20 --set precision=int8 "
            "--set image_tokens=320 'what is it?'",
            id="settings of a step",
        ),
        pytest.param(
            PlanRequest("m", Preset.AUTO, Overrides(device_map=(("", "cpu"),))),
            {"settings": ["device_map=my map.json"]},
            "python launch.py ask m --preset auto --set 'device_map=my map.json' 'what is it?'",
            id="a map by hand stays in its file",
        ),
        pytest.param(
            PlanRequest("m"),
            {"images": [Path("red.png")], "system": "Be brief", "seed": 3, "json": True, "max_tokens": 9},
            "python launch.py ask m --preset auto --image red.png --system 'Be brief' --max-tokens 9 "
            "--seed 3 --json 'what is it?'",
            id="everything that was asked for",
        ),
    ],
)
def test_the_command(request_: PlanRequest, given: dict[str, Any], expected: str) -> None:
    options: dict[str, Any] = {
        "settings": [], "images": [], "messages": None, "system": None, "max_tokens": None,
        "temperature": None, "seed": None, "json": False, "question": "what is it?",
    }  # fmt: skip
    assert command(request_, argparse.Namespace(**options | given)) == expected
