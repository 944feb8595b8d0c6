"""Loading, swapping, unloading and closing, with real processes."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from backends.errors import Cancelled, DoesNotFit, ModelDamaged, NotLoaded, WorkerCrashed
from backends.messages import Progress
from backends.reports import UnloadReport
from backends.service import ModelState, Service
from backends.settings import Settings
from backends.text import Text
from tests.support.asking import Asker
from tests.support.plans import make_plan
from tests.support.processes import children


def test_a_load_shows_true_progress_and_ends_ready(service: Service) -> None:
    plan = make_plan("model", weights_bytes=1000)
    progress = list(service.load(plan))
    assert progress[0] == Progress("start", 0, 0)
    assert progress[-1] == Progress("read", 1000, 1000)
    state = service.state()
    assert (state.status, state.plan, state.error) == ("ready", plan, None)
    assert state.report is not None
    assert state.worker_pid in children()


def test_a_load_goes_on_when_nobody_watches(service: Service) -> None:
    next(service.load(make_plan("slow-load")))
    assert Asker(service, "tab", "hello").done.finish_reason == "stop"
    assert service.state().status == "ready"


def test_progress_can_be_polled(service: Service) -> None:
    stream = service.load(make_plan("slow-load", weights_bytes=1000))
    while next(stream).done == 0:
        pass
    state = service.state()
    assert state.status == "loading"
    assert state.progress is not None
    assert state.progress.total == 1000


def test_a_warm_process_is_used_for_the_load(settings: Settings) -> None:
    before = children()
    with Service(settings, preload=True, engine="fake") as service:
        (warm,) = children() - before
        list(service.load(make_plan("model")))
        assert service.state().worker_pid == warm


def test_a_warm_process_that_was_killed_is_replaced(settings: Settings) -> None:
    before = children()
    with Service(settings, preload=True, engine="fake") as service:
        (warm,) = children() - before
        psutil.Process(warm).kill()
        try:
            list(service.load(make_plan("model")))
        except WorkerCrashed:
            # Killed between being taken and being used: the page offers to start again, and that works.
            list(service.restart())
        assert service.state().status == "ready"
        assert service.state().worker_pid != warm


def test_another_model_replaces_the_one_in_memory(ready: Service) -> None:
    old = ready.state().worker_pid
    assert old is not None
    plan = make_plan("another")
    list(ready.load(plan))
    assert ready.state().plan == plan
    assert not psutil.pid_exists(old)


def test_a_newer_load_wins(service: Service) -> None:
    first = service.load(make_plan("slow-load"))
    next(first)
    second = service.load(make_plan("model"))
    with pytest.raises(Cancelled):
        list(first)
    list(second)
    plan = service.state().plan
    assert plan is not None
    assert plan.model_path == "model"


def test_a_cancelled_load_leaves_nothing_loaded(service: Service) -> None:
    stream = service.load(make_plan("slow-load"))
    next(stream)
    service.cancel_load()
    with pytest.raises(Cancelled):
        list(stream)
    assert service.state() == ModelState()


def test_a_load_that_fails_says_why_and_the_next_one_works(service: Service) -> None:
    with pytest.raises(ModelDamaged):
        list(service.load(make_plan("damaged-load")))
    state = service.state()
    assert state.status == "empty"
    assert isinstance(state.error, ModelDamaged)
    list(service.load(make_plan("model")))
    assert service.state().status == "ready"
    assert service.state().error is None


def test_a_plan_that_does_not_fit_is_not_tried(service: Service) -> None:
    plan = replace(make_plan("model"), verdict="no", reasons=(Text("reason.ram", "It needs 90 GB."),))
    with pytest.raises(DoesNotFit) as caught:
        service.load(plan)
    assert "90 GB" in str(caught.value)
    assert service.state() == ModelState()


def test_unload_ends_the_process_and_reports(ready: Service) -> None:
    pid = ready.state().worker_pid
    assert pid is not None
    report = ready.unload()
    assert not psutil.pid_exists(pid)
    assert report.seconds > 0
    assert ready.state() == ModelState()


def test_unload_without_a_model_is_nothing(service: Service) -> None:
    assert service.unload() == UnloadReport(0, 0, 0.0)


def test_a_load_that_hangs_can_be_cancelled(service: Service) -> None:
    stream = service.load(make_plan("hang-load", weights_bytes=1000))
    assert any(progress.done == 500 for progress in stream)
    service.cancel_load()
    with pytest.raises(Cancelled):
        list(stream)
    assert service.state() == ModelState()


def test_unload_stops_a_load(service: Service) -> None:
    stream = service.load(make_plan("slow-load"))
    next(stream)
    service.unload()
    with pytest.raises(Cancelled):
        list(stream)
    assert service.state() == ModelState()


def test_restart_loads_the_last_plan_again_after_an_unload(ready: Service) -> None:
    plan = ready.state().plan
    ready.unload()
    list(ready.restart())
    assert ready.state().plan == plan


def test_restart_needs_a_plan(service: Service) -> None:
    with pytest.raises(NotLoaded):
        service.restart()


@pytest.mark.parametrize("moment", ["warm", "loading", "hanging", "ready", "answering", "waiting"])
def test_close_leaves_no_process_and_no_thread(settings: Settings, moment: str) -> None:
    before, threads = children(), set(threading.enumerate())
    service = Service(settings, preload=moment == "warm", engine="fake")
    askers: list[Asker] = []
    if moment in {"loading", "hanging"}:
        name = "slow-load" if moment == "loading" else "hang-load"
        assert any(progress.done == 500 for progress in service.load(make_plan(name, weights_bytes=1000)))
    elif moment != "warm":
        list(service.load(make_plan("model")))
    if moment in {"answering", "waiting"}:
        askers.append(Asker(service, "one", "slow long"))
        askers[0].wait_for_text()
    if moment == "waiting":
        askers.append(Asker(service, "two", "hello"))
        askers[1].wait_for_position(1)
    service.close()
    for asker in askers:
        asker.finish()
    assert children() <= before
    assert set(threading.enumerate()) <= threads
    with pytest.raises(NotLoaded):
        service.load(make_plan("model"))


def test_weights_on_the_disk_are_removed_with_the_model(service: Service, settings: Settings) -> None:
    folder = settings.offload / "model-1"
    folder.mkdir(parents=True)
    (folder / "weights.dat").write_bytes(b"x")
    list(service.load(make_plan("model", offload_dir=str(folder))))
    service.unload()
    assert not folder.exists()
    assert settings.offload.exists()


def test_a_folder_that_is_not_ours_is_never_removed(service: Service, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").touch()
    list(service.load(make_plan("model", offload_dir=str(folder))))
    service.unload()
    assert (folder / "thesis.txt").exists()


def test_a_process_started_while_the_service_closes_is_ended_too(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load fails and starts the next process ahead, in the moment in which the person leaves."""
    before = children()
    service = Service(settings, preload=True, engine="fake")
    host, leaving = service._host, threading.Event()
    closing = threading.Thread(target=service.close)
    spawn, cancel_load = host._around.spawn, host.cancel_load

    def leave() -> None:
        leaving.set()
        cancel_load()

    def spawn_while_closing(*arguments: Any) -> Any:
        closing.start()
        assert leaving.wait(60)
        return spawn(*arguments)

    monkeypatch.setattr(host, "cancel_load", leave)
    monkeypatch.setattr(host._around, "spawn", spawn_while_closing)
    with pytest.raises((ModelDamaged, Cancelled)):
        list(service.load(make_plan("damaged-load")))
    closing.join(60)
    assert not closing.is_alive()
    assert children() <= before
