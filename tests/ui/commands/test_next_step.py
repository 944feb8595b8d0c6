"""`ask` and `batch` run out of memory: exit code 3, and a next step that really works when it is pasted."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backends.conversion.types import Conversion, WeightType
from backends.errors import DiskFull, PicturesExceeded
from backends.placement.types import Overrides, PlanRequest
from backends.presets import Preset
from backends.service import Service
from backends.settings import load_settings
from tests.support import checkpoints
from tests.support.plans import make_plan
from ui.cli import main
from ui.commands import ask, batch
from ui.commands.next_step import Given, saying_the_next_step
from ui.i18n import Translator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="reads the command as a POSIX shell does")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A small model in a folder with a space, answered by the engine that obeys words."""
    monkeypatch.setenv("SNUG_HOME", str(tmp_path / "家 home"))
    for command in (ask, batch):
        monkeypatch.setattr(command, "Service", partial(Service, engine="fake", preload=False))
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


def test_the_pasted_batch_goes_on_where_it_stopped(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    lines = [
        {"question_id": 1, "text": "hello"},
        {"question_id": 2, "image": "red.png", "text": "oom-while-fp32"},
        {"question_id": 3, "text": "good bye"},
    ]
    questions, out = tmp_path / "the questions.jsonl", tmp_path / "answers.jsonl"
    questions.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    code = main(
        ["batch", model, "--preset", "cpu", "--questions", str(questions), "--images", str(tmp_path),
         "--out", str(out), "--max-tokens", "64"]
    )  # fmt: skip
    told = capsys.readouterr().err.strip().splitlines()

    assert code == 3
    assert "error: The machine ran out of memory while looking at the picture." in told
    assert told[-1].startswith("try: Use 16-bit weights. bf16 instead of fp32")
    words = shlex.split(told[-1].partition("Run: ")[2])
    assert words[:3] == ["python", "launch.py", "batch"]
    assert main(words[2:]) == 0
    answers = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [answer["question_id"] for answer in answers] == [1, 2, 3]
    assert answers[1]["text"] == "I see 1 picture. You said: oom-while-fp32"


def test_a_batch_that_does_not_load_says_the_next_step(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hungry = Path(model).rename(tmp_path / "oom-load-fp32")
    questions = tmp_path / "q.jsonl"
    questions.write_text('{"question_id": 1, "text": "hello"}', encoding="utf-8")
    code = main(
        ["batch", str(hungry), "--preset", "cpu", "--questions", str(questions), "--images", str(tmp_path),
         "--out", str(tmp_path / "a.jsonl")]
    )  # fmt: skip
    told = capsys.readouterr().err
    assert code == 3
    assert "ran out of memory while loading" in told
    assert "Run: python launch.py batch" in told


def test_more_pictures_than_were_planned_for_come_with_the_command_that_plans_for_them(
    model: str, tmp_path: Path
) -> None:
    """The engine refuses them before it uses memory; the plan is the loaded model's."""
    given = Given("ask", ["context=512"], ["--image", "a.png", "what?"])
    say = Translator("en")
    with Service(load_settings(), engine="fake", preload=False) as service:
        plan = service.plan(PlanRequest(model, Preset.CPU, Overrides(context_tokens=512)))
        list(service.load(plan))
        with pytest.raises(PicturesExceeded) as caught, saying_the_next_step(service, given, (), say):
            raise PicturesExceeded(pictures=3, planned=1)
    said = str(caught.value.remedy_text)
    assert said.startswith("Keep memory for them. Run: ")
    words = shlex.split(said.partition("Run: ")[2])
    assert words[2:5] == ["ask", model, "--preset"]
    assert {"context=512", "images=3"} <= set(words)


@pytest.mark.parametrize(("kept", "told"), [(3 << 20, True), (0, False)])
def test_a_disk_that_fills_while_converting_comes_with_the_command_that_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int, told: bool
) -> None:
    monkeypatch.setenv("SNUG_HOME", str(tmp_path / "home"))
    settings = load_settings()
    settings.converted.mkdir(parents=True)
    if kept:
        (settings.converted / "llava-0-q8_0.gguf").write_bytes(bytes(kept))
    conversion = Conversion(str(settings.converted), WeightType.Q8_0, None, nbytes=500, source_bytes=1000)
    plan = replace(
        make_plan("full-disk-conversion"), engine="llamacpp", precision="q8_0", conversion=conversion
    )
    say, given = Translator("en"), Given("ask", [], ["what?"])
    with Service(settings, engine="fake", preload=False) as service:
        with pytest.raises(DiskFull) as caught, saying_the_next_step(service, given, (), say):
            list(service.load(plan))
        said = str(caught.value.remedy_text)
        assert said.startswith("Free some space")
        assert ("Models that were converted before take 3.0 MB" in said) is told
        assert said.endswith("run: python launch.py doctor --clear-converted") is told
    if told:
        words = shlex.split(said.partition("run: ")[2])
        assert main(words[2:]) in (0, 1)
        assert not list(settings.converted.glob("*.gguf"))


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
    assert ask.given(argparse.Namespace(**options | given)).with_request(request_) == expected
