"""What `plan` tells of an earlier run of the same plan."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from backends.placement.types import PlanRequest
from tests.support.fake_service import make_plan
from tests.ui.web.test_placement import MEMORY
from ui.cli import main
from ui.commands.plan import describe, measured_to_json
from ui.i18n import Translator


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SNUG_HOME", str(tmp_path / "家"))
    return tmp_path / "家"


def test_measured_is_beside_predicted_after_a_load(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def plan(*more: str) -> dict[str, object]:
        assert main(["plan", "starter", "--preset", "cpu", "--json", *more]) == 0
        found = json.loads(capsys.readouterr().out)
        assert isinstance(found, dict)
        return found

    before = plan()
    assert before["measured"] is None
    assert main(["ask", "starter", "--preset", "cpu", "--max-tokens", "4", "What is this?"]) == 0
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
