"""What `plan` tells of an earlier run of the same plan."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from backends.placement.types import PlanRequest
from tests.support import checkpoints
from tests.support.fake_service import make_plan
from tests.ui.web.test_placement import MEMORY
from ui.cli import main
from ui.commands.plan import describe, measured_to_json
from ui.i18n import Translator

TRANSFORMERS = ("--set", "engine=transformers")
NO_GPU = Path(__file__).parents[2] / "hardware" / "no_gpu_32gb.json"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SNUG_HOME", str(tmp_path / "家"))
    return tmp_path / "家"


def test_measured_is_beside_predicted_after_a_load(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def plan(*more: str) -> dict[str, object]:
        assert main(["plan", "starter", "--preset", "cpu", "--json", *TRANSFORMERS, *more]) == 0
        found = json.loads(capsys.readouterr().out)
        assert isinstance(found, dict)
        return found

    before = plan()
    assert before["measured"] is None
    asked = ["ask", "starter", "--preset", "cpu", *TRANSFORMERS, "--max-tokens", "4", "What is this?"]
    assert main(asked) == 0
    capsys.readouterr()
    after = plan()
    measured = after.pop("measured")
    assert isinstance(measured, dict)
    assert set(measured) == {
        *("when", "context_tokens", "images", "load_s", "first_token_s", "tokens_per_s"),
        *("load_peak_ram_bytes", "devices"),
    }
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", measured["when"])
    (ram,) = measured["devices"]
    assert ram["id"] == "cpu"
    assert ram["source"] == "process"
    assert 0 < ram["weights_bytes"] < ram["held_bytes"]
    assert measured["images"] == 0
    assert set(after) == set(before) - {"measured"}
    assert plan("--set", "context=1024")["measured"] is None, "another context was never run"
    described = Path(__file__).parents[2] / "hardware" / "no_gpu_32gb.json"
    assert plan("--hardware", str(described))["measured"] is None, "nor another machine"
    assert (home / "measurements.sqlite3").exists()


def test_a_terminal_shows_it_under_the_device() -> None:
    lines = describe(make_plan(PlanRequest("starter")), Translator("en"), MEMORY)
    (first,) = [number for number, line in enumerate(lines) if line.startswith("  cuda:0")]
    assert lines[first + 1].strip() == "was 8.0 GB with 603 tokens; expected 9.0 GB"
    (second,) = [number for number, line in enumerate(lines) if line.startswith("  cpu")]
    assert lines[second + 1].strip() == "was 3.0 GB with 603 tokens; expected 2.0 GB"


def test_nothing_measured_is_null() -> None:
    assert measured_to_json(None) is None
    assert "was" not in "\n".join(describe(make_plan(PlanRequest("starter")), Translator("en")))


def test_on_a_processor_the_starter_is_converted_for_llamacpp(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "starter", "--preset", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["engine"], found["precision"], found["verdict"]) == ("llamacpp", "q8_0", "fits")
    assert found["model"]["format"] == "safetensors"
    assert set(found["device_map"].values()) == {"cpu"}
    assert found["conversion"] == {
        "weights": "q8_0",
        "pictures": "f16",
        "bytes": found["conversion"]["bytes"],
        "source_bytes": found["conversion"]["source_bytes"],
        "compared": None,
        "gap": None,
        "ready": False,
        "layout": None,
    }
    assert 5_000_000 < found["conversion"]["bytes"] < found["conversion"]["source_bytes"]
    assert any("converted once" in reason for reason in found["reasons"])
    assert "transformers" in [other["engine"] for other in found["alternatives"]]
    assert list(home.glob("converted/*")) == [], "planning converts nothing"


@pytest.mark.parametrize(
    ("settings", "engine", "precision"),
    [
        (("precision=f16",), "llamacpp", "f16"),
        (("precision=q4_0",), "llamacpp", "q4_0"),
        (("engine=llamacpp",), "llamacpp", "q8_0"),
        (("engine=llamacpp", "precision=q8_0"), "llamacpp", "q8_0"),
        (("engine=transformers",), "transformers", "fp32"),
        (("precision=bf16",), "transformers", "bf16"),
    ],
)
def test_engine_and_precision_by_hand(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    settings: tuple[str, ...],
    engine: str,
    precision: str,
) -> None:
    words = [word for setting in settings for word in ("--set", setting)]
    assert main(["plan", "starter", "--preset", "cpu", "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["engine"], found["precision"]) == (engine, precision)
    assert (found["conversion"] is not None) == (engine == "llamacpp")


@pytest.mark.parametrize(
    "settings",
    [
        ("engine=llamacpp", "precision=int8"),
        ("engine=transformers", "precision=q8_0"),
        ("engine=llamacpp", "cpu_layers_mode=stream"),
        ("engine=llamacpp", "offload_dir=x"),
        ("precision=q4_k_m",),
    ],
)
def test_what_does_not_go_together_is_said_in_three_lines(
    home: Path, capsys: pytest.CaptureFixture[str], settings: tuple[str, ...]
) -> None:
    words = [word for setting in settings for word in ("--set", setting)]
    assert main(["plan", "starter", "--preset", "cpu", *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert [line.partition(":")[0] for line in error] == ["error", "why", "try"]


def test_an_old_processor_and_a_model_that_can_not_be_converted_are_said(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = json.loads(NO_GPU.read_text(encoding="utf-8"))
    machine["cpu"] = machine["cpu"] | {"features": ["avx"]}
    old = tmp_path / "old.json"
    old.write_text(json.dumps(machine), encoding="utf-8")
    assert main(["plan", "starter", "--preset", "cpu", "--hardware", str(old), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["engine"] == "transformers"
    assert any("needs AVX2" in reason for reason in found["reasons"])

    qwen = str(checkpoints.qwen25_vl_7b(tmp_path / "qwen"))
    assert main(["plan", qwen, "--preset", "cpu", "--hardware", str(NO_GPU), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["engine"] == "transformers"
    assert any("can't be converted for llama.cpp" in reason for reason in found["reasons"])
