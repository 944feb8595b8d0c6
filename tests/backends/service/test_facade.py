"""The facade over real hardware, real models and the real planner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.errors import ImageUnreadable, ModelNotFound
from backends.hardware.types import Gpu, GpuProcess
from backends.placement.planner import plan as make_real_plan
from backends.placement.types import Credit, DeviceShare, Plan, PlanRequest
from backends.presets import Preset
from backends.service import Service
from backends.service.machine import held_on_gpus, mark_ours
from backends.settings import Settings
from backends.worker.memory import private_bytes
from tests.support.plans import make_plan

GIB = 2**30

_IMPORTS = """
import json, sys
from backends.service import Service
from backends.settings import load_settings
from backends.placement.types import PlanRequest
with Service(load_settings(), preload=False) as service:
    service.snapshot()
    verdict = service.plan(PlanRequest("starter")).verdict
print(json.dumps({"verdict": verdict, "modules": sorted(sys.modules)}))
"""


def test_planning_imports_no_heavy_library_and_starts_no_process(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", _IMPORTS],
        env={**os.environ, "SNUG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(told.stdout)
    assert answer["verdict"] == "fits"
    heavy = {"torch", "transformers", "accelerate", "bitsandbytes", "gradio", "fastapi"}
    assert heavy.isdisjoint(answer["modules"])


def test_this_machine_is_described(service: Service) -> None:
    seen = service.snapshot()
    assert seen.ram.total_bytes > 0
    assert service.snapshot() is seen, "drivers are not asked again within a second"


def test_the_starter_is_listed_inspected_and_planned(service: Service) -> None:
    assert "starter" in [entry.key for entry in service.models()]
    info = service.inspect("starter")
    assert service.inspect("starter") is info, "headers are read once"
    plan = service.plan(PlanRequest("starter", Preset.CPU))
    assert plan.verdict == "fits"
    assert plan.visible_gpus == ()
    assert [share.device for share in plan.devices] == ["cpu"]


def test_a_model_whose_files_changed_is_read_again(service: Service, settings: Settings) -> None:
    copy = settings.model_folders[0] / "副本"
    copy.mkdir(parents=True)
    for file in settings.starter.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    before = service.inspect(str(copy))
    config = copy / "config.json"
    config.write_text(config.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert service.inspect(str(copy)) is not before


def test_a_plan_for_a_described_machine_gets_no_credit(service: Service) -> None:
    described = replace(service.snapshot(), gpus=())
    request = PlanRequest("starter", Preset.CPU)
    alone = service.plan(request, described)
    list(service.load(alone))
    assert service.plan(request, described) == alone


def test_memory_that_the_loaded_model_will_give_back_counts_as_free(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Credit] = []

    def spy(*values: Any, credit: Credit, **more: Any) -> Plan:
        given.append(credit)
        return make_real_plan(*values, credit=credit, **more)

    monkeypatch.setattr("backends.service.facade.make_plan", spy)
    list(service.load(service.plan(PlanRequest("starter", Preset.CPU))))
    pid = service.state().worker_pid
    assert pid is not None
    service.plan(PlanRequest("starter", Preset.CPU))
    assert given[0] == Credit()
    assert given[1].ram_bytes == pytest.approx(private_bytes(pid), rel=0.2)
    assert given[1].ram_bytes > 0


def test_a_missing_model_is_one_clear_error(service: Service, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        service.plan(PlanRequest(str(tmp_path / "nothing here")))


def test_a_picture_is_imported_below_home(service: Service, settings: Settings) -> None:
    picture = next(settings.examples.glob("*.png"))
    part = service.import_image(picture, picture.name)
    assert part.path.is_relative_to(settings.home)
    with pytest.raises(ImageUnreadable):
        service.import_image(b"not a picture", "notes.txt")


def gpu(index: int, *processes: GpuProcess) -> Gpu:
    return Gpu(index, "NVIDIA GeForce RTX 4070", 12 * GIB, 4 * GIB, processes=processes)


def test_only_our_processes_are_marked(service: Service) -> None:
    snapshot = replace(
        service.snapshot(), gpus=(gpu(0, GpuProcess(7, "python", GIB), GpuProcess(8, "blender", GIB)),)
    )
    marked = mark_ours(snapshot, [7]).gpus[0].processes
    assert [(one.pid, one.ours) for one in marked] == [(7, True), (8, False)]
    assert mark_ours(snapshot, []) is snapshot


@pytest.mark.parametrize(
    ("told", "planned", "held"),
    [
        pytest.param(3 * GIB, 5 * GIB, 3 * GIB, id="the driver tells"),
        pytest.param(0, 5 * GIB, 5 * GIB, id="Windows does not tell: the plan's figure"),
        pytest.param(0, 20 * GIB, 8 * GIB, id="never more than is in use"),
    ],
)
def test_what_a_process_holds_on_a_gpu(service: Service, told: int, planned: int, held: int) -> None:
    plan = replace(
        make_plan("model", visible_gpus=(1,)),
        devices=(DeviceShare("cuda:1", "GPU", 12 * GIB, planned, 0, 0, 0, 0),),
    )
    snapshot = replace(
        service.snapshot(), gpus=(gpu(0, GpuProcess(7, "python", GIB)), gpu(1, GpuProcess(7, "python", told)))
    )
    assert held_on_gpus(snapshot, 7, plan) == ((1, held),)


_CRASH = """
import psutil, sys
from backends.errors import WorkerCrashed
from backends.service import Service
from backends.settings import load_settings
from tests.support.plans import make_plan
from tests.support.processes import ask
from tests.support.asking import GREEDY

if __name__ == "__main__":
    with Service(load_settings(), preload=False, engine="fake") as service:
        list(service.load(make_plan("model")))
        try:
            list(service.chat("tab", ask("crash"), GREEDY))
        except WorkerCrashed:
            print("told")
"""


def test_a_crash_is_written_to_a_log_and_not_to_the_console(tmp_path: Path) -> None:
    script = tmp_path / "crash.py"
    script.write_text(_CRASH, encoding="utf-8")
    root = Path(__file__).parents[3]
    told = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "SNUG_HOME": str(tmp_path / "home"), "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (told.stdout.strip(), told.stderr) == ("told", "")
    (log,) = (tmp_path / "home" / "logs").glob("service-*.log")
    assert "ended while answering" in log.read_text(encoding="utf-8")
