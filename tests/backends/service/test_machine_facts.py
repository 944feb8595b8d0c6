"""Plans count on what can be used and what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from backends.errors import ModelDamaged
from backends.placement.types import PlanRequest
from backends.service import Service
from backends.settings import load_settings
from tests.support.checkpoints import llava_15_7b


def service_in(home: Path) -> Service:
    return Service(replace(load_settings({}), home=home), preload=False)


def test_speeds_are_measured_once_kept_and_used(tmp_path: Path) -> None:
    with service_in(tmp_path) as service:
        before = service.snapshot()
        assert "ram.memory_gbps" in before.assumed
        service.calibrate()
        measured = service.snapshot()
    assert "ram.memory_gbps" not in measured.assumed
    assert measured.ram.memory_gbps
    file = tmp_path / "calibration.json"
    # What was measured while other programs took the processor would be measured once more.
    kept = {**json.loads(file.read_text(encoding="utf-8")), "crowded": False}
    file.write_text(json.dumps(kept), encoding="utf-8")
    with service_in(tmp_path) as again:
        assert again.snapshot().ram.memory_gbps == measured.ram.memory_gbps
        again.calibrate()
    assert json.loads(file.read_text(encoding="utf-8")) == kept


def test_a_home_that_can_not_be_written_keeps_nothing_and_goes_on(tmp_path: Path) -> None:
    home = tmp_path / "in the way"
    home.write_text("a file", encoding="utf-8")
    with service_in(home) as service:
        service.calibrate()
        assert "ram.memory_gbps" not in service.snapshot().assumed


def test_a_damaged_file_is_measured_again(tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text("{", encoding="utf-8")
    with service_in(tmp_path) as service:
        service.calibrate()
    assert json.loads((tmp_path / "calibration.json").read_text(encoding="utf-8"))


def test_plans_of_this_machine_use_it(tmp_path: Path) -> None:
    with service_in(tmp_path) as service:
        service.calibrate()
        plan = service.plan(PlanRequest("starter"))
    assumed = [reason for reason in plan.reasons if "memory_gbps" in str(reason)]
    assert not assumed


def test_a_model_of_headers_only_can_be_planned_and_not_loaded(tmp_path: Path) -> None:
    folder = llava_15_7b(tmp_path / "headers only")
    with service_in(tmp_path / "home") as service:
        plan = replace(service.plan(PlanRequest(str(folder))), verdict="slow")
        with pytest.raises(ModelDamaged, match="headers only"):
            service.load(plan)
