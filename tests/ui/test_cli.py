"""The command line as a person uses it: real processes, exit codes, stdout, stderr."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tests.support.checkpoints import llama
from tests.support.programs import hearing_ctrl_c, running

ROOT = Path(__file__).parents[2]
PLAN_KEYS = {
    "model", "preset", "engine", "precision", "verdict", "device_map", "gpu_layers", "cpu_layers_mode",
    "context_tokens", "image_tokens", "offload_dir", "devices", "load_peak_ram_bytes", "expected",
    "reasons", "alternatives",
}  # fmt: skip
DEVICE_KEYS = {
    "id", "name", "budget_bytes", "weights_bytes", "kv_cache_bytes", "activation_bytes", "staging_bytes",
    "overhead_bytes", "total_bytes",
}  # fmt: skip


def environment(home: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "SNUG_HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONUTF8": "0", **more}


class Snug:
    """Runs commands from a folder of the person's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home 家"

    def __call__(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ui.cli", *arguments],
            cwd=self.folder,
            env=environment(self.home, **more),
            capture_output=True,
            encoding="utf-8",
            timeout=240,
            check=False,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture
def snug(tmp_path: Path) -> Snug:
    folder = tmp_path / "my pictures 图"
    folder.mkdir()
    Image.new("RGB", (64, 64), "red").save(folder / "red.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    (folder / "empty model").mkdir()
    (folder / "not-a-model").mkdir()
    (folder / "not-a-model" / "config.json").write_text('{"model_type": "vit"}', encoding="utf-8")
    save_file({"encoder.weight": np.zeros((4, 4), np.float32)}, folder / "not-a-model" / "model.safetensors")
    llama(folder / "text-only")
    asked = '{"question_id": 1, "image": "red.png", "text": "What?"}'
    (folder / "about-red.jsonl").write_text(asked, encoding="utf-8")
    (folder / "bad.json").write_text("{", encoding="utf-8")
    return Snug(folder)


@pytest.mark.parametrize(
    ("case", "arguments", "code", "says"),
    [
        ("no such command", ["fly"], 2, "fly"),
        ("no such option", ["plan", "starter", "--fast"], 2, "--fast"),
        ("no model named", ["plan"], 2, "model"),
        ("no such preset", ["plan", "starter", "--preset", "turbo"], 2, "turbo"),
        ("no such model", ["plan", "missing-model"], 2, "missing-model"),
        ("an empty folder", ["plan", "empty model"], 2, "empty model"),
        ("a model of another kind", ["plan", "not-a-model"], 2, "vit does not answer"),
        ("no such setting", ["plan", "starter", "--set", "colour=red"], 2, "colour"),
        ("no such GPU", ["plan", "starter", "--set", "gpus=97"], 2, "97"),
        ("hardware file is missing", ["plan", "starter", "--hardware", "none.json"], 2, "none.json"),
        ("hardware file is broken", ["plan", "starter", "--hardware", "bad.json"], 2, "not JSON"),
        ("no question", ["ask", "starter"], 2, "no question"),
        ("an empty question", ["ask", "starter", ""], 2, "no question"),
        ("an empty standard input", ["ask", "starter", "-"], 2, "no question"),
        ("two questions", ["ask", "starter", "hi", "--messages", "bad.json"], 2, "conversation file"),
        ("bad messages file", ["ask", "starter", "--messages", "bad.json"], 2, "not JSON"),
        ("no such picture", ["ask", "starter", "--image", "none.png", "What?"], 2, "none.png"),
        ("a broken picture", ["ask", "starter", "--image", "broken.png", "What?"], 2, "broken.png"),
        ("no answer tokens", ["ask", "starter", "hi", "--max-tokens", "0"], 2, "--max-tokens"),
        ("cold", ["ask", "starter", "hi", "--temperature", "-1"], 2, "--temperature"),
        ("hotter than hot", ["ask", "starter", "hi", "--temperature", "inf"], 2, "can't be inf"),
        ("not a number", ["ask", "starter", "hi", "--temperature", "nan"], 2, "--temperature"),
        (
            "no questions file",
            ["batch", "starter", "--questions", "q", "--images", ".", "--out", "a"],
            2,
            "q",
        ),
        (
            "a batch hotter than hot",
            ["batch", "starter", "--questions", "q", "--images", ".", "--out", "a", "--temperature", "inf"],
            2,
            "--temperature",
        ),
        (
            "a picture for a model without eyes",
            ["ask", "text-only", "--image", "red.png", "What?"],
            2,
            "text-only can't see pictures",
        ),
        (
            "pictures for a model without eyes",
            ["batch", "text-only", "--questions", "about-red.jsonl", "--images", ".", "--out", "a"],
            2,
            "text-only can't see pictures",
        ),
        ("impossible port", ["--port", "99999"], 2, "99999"),
    ],
)
def test_wrong_input(case: str, arguments: list[str], code: int, says: str, snug: Snug) -> None:
    result = snug(*arguments)
    assert result.returncode == code, case + result.stderr
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "why", "try"], result.stderr
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback(snug: Snug) -> None:
    result = snug("plan", "missing-model", "--debug")
    assert result.returncode == 2
    assert "Traceback" in result.stderr


def test_help_is_help(snug: Snug) -> None:
    result = snug("--help")
    assert result.returncode == 0
    for command in ("web", "doctor", "plan", "ask", "batch"):
        assert command in result.stdout


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_port_in_use_names_a_free_one(snug: Snug, taken_port: int) -> None:
    result = snug("--no-browser", "--port", str(taken_port))
    assert result.returncode == 3
    assert f"error: Port {taken_port} is in use." in result.stderr
    assert "--port" in result.stderr.splitlines()[-1]


def test_a_page_that_has_nowhere_to_write_says_so(snug: Snug) -> None:
    snug.home.write_text("in the way", encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    result = snug("--no-browser", "--port", port)
    assert result.returncode == 3, result.stderr
    assert f"error: {snug.home / 'uploads'} can't be written." in result.stderr
    assert "SNUG_HOME" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("preset", ["auto", "cpu"])
def test_plan_json_has_the_contracts_keys(preset: str, snug: Snug) -> None:
    result = snug("plan", "starter", "--preset", preset, "--json")
    assert result.returncode == 0, result.stderr
    plan = json.loads(result.stdout)
    assert set(plan) >= PLAN_KEYS
    assert set(plan["model"]) >= {"path", "family", "parameters", "layers", "format"}
    assert plan["model"]["family"] == "llava"
    assert set(plan["expected"]) >= {"load_s", "first_token_s", "tokens_per_s"}
    assert plan["preset"] == preset
    assert plan["verdict"] == "fits"
    assert all(isinstance(reason, str) for reason in plan["reasons"])
    for device in plan["devices"]:
        assert set(device) >= DEVICE_KEYS
        parts = sum(value for key, value in device.items() if key.endswith("_bytes") and key not in
                    {"budget_bytes", "total_bytes"})  # fmt: skip
        assert parts == device["total_bytes"] <= device["budget_bytes"]


def test_plan_for_another_machine(snug: Snug) -> None:
    card = ROOT / "tests" / "hardware" / "rtx3090.json"
    plan = json.loads(snug("plan", "starter", "--hardware", str(card), "--json").stdout)
    assert set(plan["device_map"].values()) == {"cuda:0"}


def test_plan_in_chinese(snug: Snug) -> None:
    result = snug("plan", "starter", "--preset", "cpu", SNUG_LANG="zh")
    assert "放得下" in result.stdout


def test_doctor_json(snug: Snug) -> None:
    result = snug("doctor", "--json")
    assert result.returncode in {0, 1}, result.stdout
    document = json.loads(result.stdout)
    assert set(document["hardware"]) >= {"os", "gpus", "ram", "cpu", "disk"}
    assert document["hardware"]["ram"]["total_bytes"] > 0
    assert all(finding["remedy"] for finding in document["findings"] if finding["level"] != "ok")
    assert document["ok"] is (result.returncode == 0)


def test_doctors_hardware_can_be_planned_for(snug: Snug) -> None:
    described = json.loads(snug("doctor", "--json").stdout)["hardware"]
    (snug.folder / "here.json").write_text(json.dumps(described), encoding="utf-8")
    result = snug("plan", "starter", "--hardware", "here.json", "--json")
    assert result.returncode == 0, result.stderr


def test_ask_answers_with_the_contracts_keys_and_twice_the_same(snug: Snug) -> None:
    arguments = ["ask", "starter", "--image", "red.png", "--temperature", "0", "--max-tokens", "8", "--json"]
    result = snug(*arguments, "What color is the background?")
    assert result.returncode == 0, result.stderr
    first = json.loads(result.stdout)
    assert set(first) >= {"answer", "token_ids", "finish_reason", "engine", "precision", "usage", "timings"}
    assert first["finish_reason"] in {"stop", "length"}
    assert first["usage"]["image_tokens"] == 64
    assert first["usage"]["completion_tokens"] in {len(first["token_ids"]), len(first["token_ids"]) + 1}
    assert "red" in first["answer"].lower()
    conversation = [
        {
            "role": "user",
            "content": [
                {"type": "image", "path": "../red.png"},
                {"type": "text", "text": "What color is the background?"},
            ],
        }
    ]
    (snug.folder / "sub").mkdir()
    (snug.folder / "sub" / "chat.json").write_text(json.dumps(conversation), encoding="utf-8")
    options = ["--temperature", "0", "--max-tokens", "8", "--json"]
    result = snug("ask", "starter", "--messages", "sub/chat.json", *options)
    assert json.loads(result.stdout)["token_ids"] == first["token_ids"]


def test_batch_resumes_where_it_stopped(snug: Snug) -> None:
    questions = [{"question_id": n, "image": "red.png", "text": "Is there a circle?"} for n in range(3)]
    (snug.folder / "q.jsonl").write_text("\n".join(map(json.dumps, questions)), encoding="utf-8")
    out = snug.folder / "out" / "a.jsonl"
    out.parent.mkdir()
    out.write_text('{"question_id": 0, "text": "kept"}\n{"question_id": 1, "te', encoding="utf-8")
    result = snug("batch", "starter", "--questions", "q.jsonl", "--images", ".", "--out", "out/a.jsonl")
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [line["question_id"] for line in lines] == [0, 1, 2]
    assert lines[0]["text"] == "kept"
    assert set(lines[1]) == {"question_id", "prompt", "text", "answer_id", "model_id", "metadata"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize(
    "arguments",
    [("doctor", "--json"), ("plan", "starter"), ("ask", "starter", "Hello")],
    ids=lambda it: it[0],
)
def test_output_that_has_nowhere_to_go(arguments: tuple[str, ...], snug: Snug) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ui.cli", *arguments],
            cwd=snug.folder,
            env=environment(snug.home),
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            timeout=240,
            check=False,
        )
    assert done.returncode == 3
    assert "error: The answer could not be written out." in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_while_answering_is_calm(snug: Snug) -> None:
    with (
        hearing_ctrl_c(),
        running(
            [
                sys.executable,
                "-m",
                "ui.cli",
                "ask",
                "starter",
                "Describe everything.",
                "--set",
                "context=512",
            ],
            cwd=snug.folder,
            env=environment(snug.home),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        # The home folder appears once the command is under way; then any moment is a fair one.
        while not snug.home.exists() and process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):  # others may need the processor
                process.wait(0.01)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
