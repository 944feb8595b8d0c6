"""A loaded model takes other places: in its process, between answers, and never worse than a load."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from backends.errors import Cancelled, FolderReadOnly, GpuGone, OutOfGpuMemory, SnugError, WorkerCrashed
from backends.hardware.types import HardwareSnapshot
from backends.messages import Message, Progress, Role, TextPart
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from backends.service import ModelState, Service
from backends.settings import Settings
from tests.support import checkpoints, machines
from tests.support.asking import Asker
from tests.support.plans import make_plan
from tests.support.processes import ask, children

PLACES = {"embed": "cpu", "layers.0": "cpu", "layers.1": "cpu", "head": "cpu"}
MOVED = {**PLACES, "layers.1": "disk"}


def start(model: str = "model", **changes: object) -> Plan:
    return replace(make_plan(model, device_map=PLACES), **changes)  # type: ignore[arg-type]


def elsewhere(plan: Plan, **changes: object) -> Plan:
    """The plan with one layer on the disk, as another request asked for it."""
    request = replace(plan.request, overrides=Overrides(max_memory=(("cpu", 1 << 30),)))
    return replace(plan, device_map=tuple(MOVED.items()), request=request, **changes)  # type: ignore[arg-type]


def loaded(service: Service, plan: Plan) -> ModelState:
    list(service.load(plan))
    return service.state()


def answers(service: Service, text: str = "hello") -> None:
    assert Asker(service, "tab", text).done.finish_reason == "stop"


def watch_until(stream: Iterator[Progress], stage: str) -> None:
    """Follow a load up to a stage that has begun to move something."""
    while next(stream).stage != stage:
        pass


def test_the_same_process_goes_on_with_the_new_plan(service: Service) -> None:
    before = loaded(service, start())
    plan = elsewhere(start())
    assert service.why_reload(plan) is None
    progress = list(service.load(plan))
    after = service.state()
    assert {each.stage for each in progress} <= {"start", "move"}
    assert progress[-1].stage == "move"
    assert (after.status, after.plan, after.error, after.moving) == ("ready", plan, None, False)
    assert after.worker_pid == before.worker_pid
    assert before.report is not None
    assert after.report is not None
    assert (before.report.moved, after.report.moved) == (False, True)
    assert after.report.device_map == plan.device_map
    answers(service)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"precision": "bf16"}, "move.precision"),
        ({"model_path": "another"}, "move.other_model"),
        ({"device_map": (("", "cuda:0"),), "visible_gpus": (0,)}, "move.hidden_gpu"),
    ],
    ids=["another precision", "another model", "a GPU that the process may not see"],
)
def test_what_needs_the_files_is_loaded_anew_and_says_why(
    service: Service, change: dict[str, Any], code: str
) -> None:
    before = loaded(service, start())
    plan = start(**change)
    found = service.why_reload(plan)
    assert found is not None
    assert found.code == code
    after = loaded(service, plan)
    assert (after.status, after.plan) == ("ready", plan)
    assert after.worker_pid != before.worker_pid
    assert after.report is not None
    assert not after.report.moved


def test_without_a_model_everything_is_a_load(service: Service) -> None:
    found = service.why_reload(start())
    assert found is not None
    assert found.code == "move.nothing_loaded"


def test_changed_files_are_read_again(service: Service, tmp_path: Path) -> None:
    """Else a model that was downloaded anew would keep its old weights, whatever is pressed."""
    folder = tmp_path / "a model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"old")
    plan = start(str(folder))
    before = loaded(service, plan)
    other = elsewhere(plan)
    assert service.why_reload(other) is None
    (folder / "model.safetensors").write_bytes(b"brand new")
    found = service.why_reload(other)
    assert found is not None
    assert found.code == "move.files_changed"
    assert loaded(service, other).worker_pid != before.worker_pid
    assert service.why_reload(plan) is None, "what was read now is what counts"


def test_a_model_is_moved_again_and_back(service: Service) -> None:
    """Also to a GPU that a plan in between did not use: the process saw it from the start."""
    gpus = start(device_map=(("embed", "cuda:0"), ("layers.0", "cuda:1")), visible_gpus=(0, 1))
    pid = loaded(service, gpus).worker_pid
    one = replace(gpus, device_map=(("embed", "cuda:1"), ("layers.0", "cuda:1")), visible_gpus=(1,))
    after = loaded(service, one)
    assert after.plan == replace(one, visible_gpus=(0, 1))
    assert service.why_reload(gpus) is None
    assert loaded(service, gpus).worker_pid == pid


def test_an_answer_under_way_ends_first(service: Service) -> None:
    loaded(service, start())
    asker = Asker(service, "tab", "slow and whole")
    asker.wait_for_text()
    stream = service.load(elsewhere(start()))
    watch_until(stream, "wait")
    assert service.state().moving
    list(stream)
    assert asker.done.finish_reason == "stop"
    assert asker.text == "I see 0 pictures. You said: slow and whole"


def test_a_question_of_another_tab_waits_for_the_move(service: Service) -> None:
    loaded(service, start("slow-move"))
    stream = service.load(elsewhere(start("slow-move"), context_tokens=3))
    watch_until(stream, "move")
    asker = Asker(service, "another tab", "hello to the new plan")
    asker.wait_for(lambda events: any(isinstance(one, Progress) and one.stage == "move" for one in events))
    list(stream)
    asker.finish()
    assert asker.error is not None
    assert asker.error.code == "context_exceeded", "the new plan answered, which has no room"


def test_what_conversations_have_cached_stays(service: Service) -> None:
    loaded(service, start())
    answers(service, "one two three")
    loaded(service, elsewhere(start()))
    done = Asker(service, "tab", "one two three").done
    assert done.usage.reused_tokens == 3


def test_a_draft_gives_way_and_is_prepared_afterwards(service: Service) -> None:
    loaded(service, start())
    draft = (Message(Role.USER, (TextPart("slow-prime"),)),)
    service.prime("tab", draft)
    assert loaded(service, elsewhere(start())).status == "ready"
    service.prime("tab", ask("hello"))
    answers(service)


@pytest.mark.parametrize("moment", ["wait", "move"])
def test_stopped_it_is_where_it_was(service: Service, moment: str) -> None:
    before = loaded(service, start("slow-move"))
    asker = Asker(service, "tab", "slow long") if moment == "wait" else None
    if asker is not None:
        asker.wait_for_text()
    stream = service.load(elsewhere(start("slow-move")))
    watch_until(stream, moment)
    service.cancel_load()
    with pytest.raises(Cancelled):
        list(stream)
    assert replace(service.state(), busy=False) == before
    assert service._host._last_plan == before.plan, "what a crash from now on is started again with"
    if asker is not None:
        service.cancel("tab")
        asker.finish()
    answers(service)


def test_a_newer_choice_wins_and_starts_from_where_the_model_is(service: Service) -> None:
    before = loaded(service, start("slow-move"))
    first = service.load(elsewhere(start("slow-move")))
    watch_until(first, "move")
    newer = elsewhere(start("slow-move"), context_tokens=99)
    list(service.load(newer))
    with pytest.raises(Cancelled):
        list(first)
    assert (service.state().plan, service.state().worker_pid) == (newer, before.worker_pid)


@pytest.mark.parametrize("model", ["failing-move", "losing-move"], ids=["no room", "nor a way back"])
def test_a_move_that_fails_is_followed_by_a_load(service: Service, model: str) -> None:
    """The plan fits once the old one is gone; running out on the way says nothing about it."""
    learnt: list[SnugError] = []
    service._host.on_failure = lambda _plan, error: learnt.append(error)
    before = loaded(service, start(model))
    plan = elsewhere(start(model))
    moving: list[bool] = []
    told = service._host.on_change

    def note() -> None:
        moving.append(service._host.state.moving)
        told()

    service._host.on_change = note
    list(service.load(plan))
    after = service.state()
    assert moving == sorted(moving, reverse=True)
    assert set(moving) == {True, False}
    assert (after.status, after.plan, after.error) == ("ready", plan, None)
    assert after.worker_pid != before.worker_pid
    assert learnt == []
    answers(service)


@pytest.mark.parametrize("error", [GpuGone(device="GPU 1", count=1), FolderReadOnly(path="x", detail="y")])
def test_what_a_load_would_meet_too_leaves_the_model_answering(
    service: Service, error: SnugError, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = loaded(service, start())

    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(service._host, "_watch", broken)
    with pytest.raises(type(error)):
        list(service.load(elsewhere(start())))
    assert service.state() == before
    answers(service)


def test_a_crash_on_the_way_is_said_and_started_again_as_asked(service: Service) -> None:
    learnt: list[SnugError] = []
    service._host.on_failure = lambda _plan, error: learnt.append(error)
    loaded(service, start("crash-move"))
    plan = elsewhere(start("crash-move"))
    with pytest.raises(WorkerCrashed) as caught:
        list(service.load(plan))
    assert str(caught.value.values["stage"]) == "rearranging the model"
    state = service.state()
    assert (state.status, state.plan) == ("crashed", plan)
    assert learnt == [], "the plan itself has failed nowhere"
    list(service.restart())
    assert (service.state().status, service.state().plan) == ("ready", plan)
    answers(service)


def test_a_process_that_dies_while_a_move_waits_is_a_crash(service: Service) -> None:
    before = loaded(service, start())
    asker = Asker(service, "tab", "slow long")
    asker.wait_for_text()
    stream = service.load(elsewhere(start()))
    watch_until(stream, "wait")
    assert before.worker_pid is not None
    psutil.Process(before.worker_pid).kill()
    with pytest.raises(WorkerCrashed):
        list(stream)
    assert service.state().status == "crashed"
    asker.finish()


@pytest.mark.parametrize("moment", ["wait", "move"])
def test_unload_does_not_wait_for_the_way_back(service: Service, settings: Settings, moment: str) -> None:
    folder = settings.offload / "model-1"
    folder.mkdir(parents=True)
    state = loaded(service, start("slow-move"))
    asker = Asker(service, "tab", "slow long") if moment == "wait" else None
    if asker is not None:
        asker.wait_for_text()
    stream = service.load(elsewhere(start("slow-move"), offload_dir=str(folder)))
    watch_until(stream, moment)
    report = service.unload()
    assert report.seconds > 0
    with pytest.raises(Cancelled):
        list(stream)
    assert service.state() == ModelState()
    assert state.worker_pid is not None
    assert not psutil.pid_exists(state.worker_pid)
    assert not folder.exists()
    if asker is not None:
        asker.finish()


def test_another_model_is_loaded_while_one_is_being_moved(service: Service) -> None:
    loaded(service, start("slow-move"))
    first = service.load(elsewhere(start("slow-move")))
    watch_until(first, "move")
    after = loaded(service, start("another"))
    with pytest.raises(Cancelled):
        list(first)
    assert after.plan == start("another")
    answers(service)


def test_close_in_the_middle_leaves_no_process_and_no_thread(settings: Settings) -> None:
    before, threads = children(), set(threading.enumerate())
    service = Service(settings, preload=False, engine="fake")
    loaded(service, start("slow-move"))
    stream = service.load(elsewhere(start("slow-move")))
    watch_until(stream, "move")
    service.close()
    with pytest.raises(Cancelled):
        list(stream)
    assert children() <= before
    assert set(threading.enumerate()) <= threads


class OnCard:
    """A service on a pretended machine with one card; weights are counted from published headers."""

    def __init__(self, service: Service, folder: Path, ram: float) -> None:
        self.service = service
        self.model = str(checkpoints.llava_15_7b(folder / "llava"))
        machine = service._machine
        machine.snapshot = lambda *_args, **_more: self.hardware(ram)  # type: ignore[method-assign]
        machine.usable = lambda *_args: self.hardware(ram)  # type: ignore[method-assign]

    @staticmethod
    def hardware(ram: float) -> HardwareSnapshot:
        return machines.machine(machines.gpu(0, free=20), ram=64, available=ram)

    def plan(self, layers: int) -> Plan:
        overrides = Overrides(gpu_layers=layers, precision="bf16", cpu_layers_mode="compute")
        return self.service.plan(PlanRequest(self.model, Preset.CUSTOM, overrides))


@pytest.mark.parametrize(("ram", "code"), [(30, None), (2.5, "move.no_room")])
def test_room_for_both_at_once_is_looked_at_before(
    service: Service, tmp_path: Path, ram: float, code: str | None
) -> None:
    card = OnCard(service, tmp_path, 60)
    whole, part = card.plan(32), card.plan(20)
    card = OnCard(service, tmp_path / "now", ram)
    loaded(service, whole)
    found = service.why_reload(part)
    assert (found and found.code) == code
    report = loaded(service, part).report
    assert report is not None
    assert report.moved == (code is None)


def test_the_ladder_moves_layers_off_the_gpu_without_a_load(service: Service, tmp_path: Path) -> None:
    card = OnCard(service, tmp_path, 60)
    before = loaded(service, card.plan(32))
    full = OutOfGpuMemory(device="GPU 0", stage="answering", needed_bytes=2 << 30, free_bytes=0)
    assert before.plan is not None
    step = service.next_step(full, before.plan, "chat").step
    assert step is not None
    assert step.rung == "layers"
    after = loaded(service, step.plan)
    assert after.plan is not None
    assert after.plan.gpu_layers < before.plan.gpu_layers
    assert after.worker_pid == before.worker_pid
    assert after.report is not None
    assert after.report.moved
    back = loaded(service, before.plan)
    assert (back.worker_pid, back.plan) == (before.worker_pid, before.plan)
