"""The model's process is killed at any moment, for real: what is told, and that everything goes on."""

from __future__ import annotations

import psutil
import pytest

from backends.errors import SnugError, WorkerCrashed
from backends.messages import TextDelta
from backends.service import Service
from tests.support.asking import GREEDY, Asker
from tests.support.plans import make_plan
from tests.support.processes import ask


def kill(service: Service) -> None:
    pid = service.state().worker_pid
    assert pid is not None
    psutil.Process(pid).kill()


def stage(error: SnugError | None) -> str:
    assert isinstance(error, WorkerCrashed)
    return str(error.values["stage"])


def wait_until_crashed(service: Service) -> None:
    """The state says so as soon as the system has told us; a question is told at once either way."""
    with pytest.raises(WorkerCrashed):
        list(service.chat("probe", ask("hello"), GREEDY))


def assert_it_goes_on(service: Service) -> None:
    assert service.state().status == "crashed"
    assert service.state().plan is not None
    list(service.restart())
    assert service.state().status == "ready"
    assert service.state().error is None
    assert Asker(service, "afterwards", "hello").done.finish_reason == "stop"


def test_while_idle(ready: Service) -> None:
    kill(ready)
    wait_until_crashed(ready)
    assert_it_goes_on(ready)


def test_while_loading(service: Service) -> None:
    stream = service.load(make_plan("slow-load"))
    while next(stream).done == 0:
        pass
    kill(service)
    with pytest.raises(WorkerCrashed) as caught:
        list(stream)
    assert stage(caught.value) == "loading"
    assert stage(service.state().error) == "loading"
    assert_it_goes_on(service)


def test_while_answering(ready: Service) -> None:
    stream = ready.chat("tab", ask("slow long"), GREEDY)
    while not isinstance(next(stream), TextDelta):
        pass
    kill(ready)
    with pytest.raises(WorkerCrashed) as caught:
        list(stream)
    assert stage(caught.value) == "answering"
    assert "Traceback" not in str(caught.value)
    assert not ready.state().busy
    assert_it_goes_on(ready)


def test_while_others_wait_everyone_is_told_and_the_queue_is_empty(ready: Service) -> None:
    first = Asker(ready, "first", "slow long")
    first.wait_for_text()
    second = Asker(ready, "second", "hello")
    second.wait_for_position(1)
    kill(ready)
    for asker in (first, second):
        asker.finish()
        assert isinstance(asker.error, WorkerCrashed)
    assert (ready.state().busy, ready.state().waiting) == (False, 0)
    assert_it_goes_on(ready)


def test_by_itself(ready: Service) -> None:
    asker = Asker(ready, "tab", "crash")
    asker.finish()
    assert stage(asker.error) == "answering"
    assert_it_goes_on(ready)


def test_again_and_again(ready: Service) -> None:
    for _ in range(3):
        kill(ready)
        wait_until_crashed(ready)
        list(ready.restart())
    assert ready.state().status == "ready"


def test_another_model_can_be_loaded_after_a_crash(ready: Service) -> None:
    kill(ready)
    wait_until_crashed(ready)
    list(ready.load(make_plan("another")))
    assert ready.state().status == "ready"
