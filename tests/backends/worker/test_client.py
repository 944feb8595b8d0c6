"""One child process from the parent's side: answers, stops, crashes and hangs, with real processes."""

from __future__ import annotations

import _thread
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest

from backends.errors import (
    Cancelled,
    ModelDamaged,
    NotLoaded,
    OutOfGpuMemory,
    PackageMissing,
    RamKilled,
    SettingInvalid,
    SnugError,
    WorkerCrashed,
    WorkerHung,
)
from backends.messages import Done, Progress, SamplingParams, TextDelta
from backends.worker.client import Patience, WorkerClient
from tests.support.plans import make_plan
from tests.support.processes import ask, children
from tests.support.programs import hearing_ctrl_c

Spawn = Callable[..., WorkerClient]

GREEDY = SamplingParams(temperature=0.0, max_tokens=4000)


def loaded(client: WorkerClient, model: str = "model") -> WorkerClient:
    for _ in client.load(make_plan(model)):
        pass
    return client


def test_an_answer_arrives_in_pieces_and_ends_with_done(spawn: Spawn) -> None:
    client = loaded(spawn())
    events = list(client.chat("one", ask("hello there"), GREEDY))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == (
        "I see 0 pictures. You said: hello there"
    )
    done = events[-1]
    assert isinstance(done, Done)
    assert done.finish_reason == "stop"
    assert [event for event in events if isinstance(event, Done)] == [done]


def test_a_load_tells_how_many_bytes_it_has_read_and_what_it_made(spawn: Spawn) -> None:
    task = spawn().load(make_plan("model", weights_bytes=1000))
    progress = [event for event in task if isinstance(event, Progress)]
    assert (progress[-1].done, progress[-1].total) == (1000, 1000)
    assert [event.done for event in progress] == sorted(event.done for event in progress)
    assert task.report is not None
    assert task.report.engine == "fake"


def test_a_long_answer_is_complete_and_in_order(spawn: Spawn) -> None:
    events = list(loaded(spawn()).chat("one", ask("long"), GREEDY))
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert said == " ".join(f"word{index}" for index in range(2000))


def test_stop_takes_effect_within_one_token(spawn: Spawn) -> None:
    client = loaded(spawn())
    task = client.chat("one", ask("slow long"), GREEDY)
    seen_at_stop = 0
    words = 0
    for event in task:
        if isinstance(event, TextDelta):
            words += len(event.text.split())
        if words >= 3 and not task.cancelled:
            task.cancel()
            seen_at_stop = words
        if isinstance(event, Done):
            assert event.finish_reason == "cancelled"
            assert event.usage.completion_tokens == words
    # One word may have been on its way when the command was sent, one while it travelled.
    assert seen_at_stop <= words <= seen_at_stop + 2


def test_the_process_answers_again_after_a_stop(spawn: Spawn) -> None:
    client = loaded(spawn())
    stopped = client.chat("one", ask("slow long"), GREEDY)
    stopped.cancel()
    assert isinstance(list(stopped)[-1], Done)
    assert isinstance(list(client.chat("one", ask("again"), GREEDY))[-1], Done)


def test_cancel_reaches_a_task_that_still_waits(spawn: Spawn) -> None:
    client = loaded(spawn())
    first = client.chat("one", ask("slow long"), GREEDY)
    second = client.chat("two", ask("long"), GREEDY)
    second.cancel()
    first.cancel()
    done = list(second)[-1]
    assert isinstance(done, Done)
    assert done.usage.completion_tokens == 0


def test_a_load_can_be_cancelled(spawn: Spawn) -> None:
    task = spawn().load(make_plan("slow-load"))
    events = iter(task)
    next(events)
    task.cancel()
    with pytest.raises(Cancelled):
        list(events)


@pytest.mark.parametrize(
    ("model", "question", "kind"),
    [
        pytest.param("damaged-load", None, ModelDamaged, id="a load that fails"),
        pytest.param("model", "oom", OutOfGpuMemory, id="an answer that fails"),
    ],
)
def test_an_error_of_the_engine_arrives_with_its_figures_and_the_process_lives_on(
    spawn: Spawn, model: str, question: str | None, kind: type[SnugError]
) -> None:
    client = spawn()
    task = (
        client.load(make_plan(model))
        if question is None
        else loaded(client).chat("one", ask(question), GREEDY)
    )
    with pytest.raises(kind) as caught:
        list(task)
    assert "Traceback" not in str(caught.value)
    assert client.alive
    assert isinstance(list(loaded(client).chat("one", ask("hello"), GREEDY))[-1], Done)


def test_an_unknown_engine_is_one_clear_error(spawn: Spawn) -> None:
    with pytest.raises((SettingInvalid, PackageMissing)):
        list(spawn("no-such-engine").load(make_plan("model")))


def test_a_question_before_a_model_is_an_error_not_a_crash(spawn: Spawn) -> None:
    client = spawn()
    with pytest.raises(SnugError):
        list(client.chat("one", ask("hello"), GREEDY))
    assert client.alive


def kill_child(client: WorkerClient) -> None:
    psutil.Process(client.pid).kill()


class Exits:
    """Remembers what the client says about its end."""

    def __init__(self) -> None:
        self.errors: list[SnugError] = []
        self.happened = threading.Event()

    def __call__(self, _client: WorkerClient, error: SnugError) -> None:
        self.errors.append(error)
        self.happened.set()


def stage_of(error: SnugError) -> str:
    return str(error.values["stage"])


def test_killed_while_it_starts(spawn: Spawn) -> None:
    exits = Exits()
    client = spawn(on_exit=exits)
    kill_child(client)
    assert exits.happened.wait(30)
    assert stage_of(exits.errors[0]) in {"starting", "idle"}


def test_killed_while_idle(spawn: Spawn) -> None:
    exits = Exits()
    client = loaded(spawn(on_exit=exits))
    kill_child(client)
    assert exits.happened.wait(30)
    assert isinstance(exits.errors[0], WorkerCrashed)
    assert stage_of(exits.errors[0]) == "idle"
    assert not client.alive
    with pytest.raises(WorkerCrashed):
        client.chat("one", ask("hello"), GREEDY)


def test_killed_while_loading(spawn: Spawn) -> None:
    client = spawn()
    events = iter(client.load(make_plan("slow-load")))
    next(events)
    kill_child(client)
    with pytest.raises(WorkerCrashed) as caught:
        list(events)
    assert stage_of(caught.value) == "loading"


def test_killed_while_answering_after_what_was_said_has_arrived(spawn: Spawn) -> None:
    exits = Exits()
    client = loaded(spawn(on_exit=exits))
    events = iter(client.chat("one", ask("slow long"), GREEDY))
    while not isinstance(next(events), TextDelta):
        pass
    kill_child(client)
    with pytest.raises(WorkerCrashed) as caught:
        list(events)
    assert stage_of(caught.value) == "answering"
    assert exits.happened.is_set(), "who owns the process learns of its end before who waits for an answer"
    assert "memory" in str(caught.value) or sys.platform == "win32"


def test_ended_by_the_kernel_for_want_of_memory(spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's count of such ends tells it from a process that anybody has killed."""
    kills = 3
    monkeypatch.setattr("backends.worker.client.oom_kills", lambda: kills)
    client = loaded(spawn())
    events = iter(client.chat("one", ask("slow long"), GREEDY))
    while not isinstance(next(events), TextDelta):
        pass
    kills = 4
    kill_child(client)
    if sys.platform == "win32":
        pytest.skip("Windows ends processes with codes of their own")
    with pytest.raises(RamKilled) as caught:
        list(events)
    assert stage_of(caught.value) == "answering"
    assert "17.0 MB were planned for it" in str(caught.value)


def test_a_process_that_ends_by_itself_is_reported_with_its_code(spawn: Spawn) -> None:
    client = loaded(spawn())
    with pytest.raises(WorkerCrashed) as caught:
        list(client.chat("one", ask("crash"), GREEDY))
    assert "70" in str(caught.value.why_text)


def test_everyone_who_waits_learns_of_the_end(spawn: Spawn) -> None:
    client = loaded(spawn())
    tasks = [client.chat(name, ask("slow long"), GREEDY) for name in "abc"]
    kill_child(client)
    for task in tasks:
        with pytest.raises(WorkerCrashed):
            list(task)


@pytest.mark.parametrize("stage", ["loading", "answering"])
def test_a_process_deaf_to_cancel_is_ended(spawn: Spawn, stage: str) -> None:
    client = spawn(patience=Patience(cancel_s=0.3, cancel_load_s=0.3))
    if stage == "loading":
        task = client.load(make_plan("hang-load", weights_bytes=1000))
        assert any(isinstance(event, Progress) and event.done == 500 for event in task)
    else:
        task = loaded(client).chat("one", ask("hang"), GREEDY)
    task.cancel()
    with pytest.raises(WorkerHung) as caught:
        list(task)
    assert stage_of(caught.value) == stage
    assert caught.value.values["seconds"] == 0.3


def test_a_process_that_never_gets_ready_is_ended(spawn: Spawn) -> None:
    exits = Exits()
    client = spawn(patience=Patience(ready_s=0.0), on_exit=exits)
    assert exits.happened.wait(30)
    assert isinstance(exits.errors[0], WorkerHung)
    assert stage_of(exits.errors[0]) == "starting"
    assert not client.alive


def test_close_ends_a_running_answer_as_cancelled(spawn: Spawn) -> None:
    client = loaded(spawn())
    task = client.chat("one", ask("slow long"), GREEDY)
    next(iter(task))
    client.close()
    done = list(task)[-1]
    assert isinstance(done, Done)
    assert done.finish_reason == "cancelled"
    with pytest.raises(NotLoaded):
        client.chat("one", ask("hello"), GREEDY)


def test_close_ends_a_process_that_hangs(spawn: Spawn) -> None:
    exits = Exits()
    client = spawn(patience=Patience(close_s=0.3), on_exit=exits)
    task = loaded(client).chat("one", ask("hang"), GREEDY)
    client.close()
    assert not psutil.pid_exists(client.pid)
    with pytest.raises(NotLoaded):
        list(task)
    assert exits.errors == [], "an end that was asked for is no crash"


def test_close_twice_is_fine(spawn: Spawn) -> None:
    client = spawn()
    client.close()
    client.close()


def test_what_libraries_print_goes_to_the_log(spawn: Spawn) -> None:
    client = loaded(spawn())
    client.close()
    assert "imported in" in client.log.read_text(encoding="utf-8")


def test_ctrl_c_is_heard_once_a_process_is_wholly_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the system hands the signal to another thread than the one that starts it."""
    reached: list[object] = []
    started = BaseProcess.start

    def interrupted(process: BaseProcess) -> None:
        _thread.interrupt_main()
        started(process)
        reached.append(process)

    monkeypatch.setattr(BaseProcess, "start", interrupted)
    with hearing_ctrl_c():
        with pytest.raises(KeyboardInterrupt):
            WorkerClient("fake", {}, tmp_path / "worker.log")
        with pytest.raises(KeyboardInterrupt):  # from then on at once, as before
            signal.raise_signal(signal.SIGINT)
    (process,) = reached
    assert isinstance(process, BaseProcess)
    process.join(60)  # nobody holds the other end of its pipe
    assert process.exitcode == 0


def test_ctrl_c_does_not_end_the_process(spawn: Spawn) -> None:
    if sys.platform == "win32":
        pytest.skip("signals to one process exist on POSIX only")
    client = spawn()
    os.kill(client.pid, signal.SIGINT)
    loaded(client)
    os.kill(client.pid, signal.SIGINT)
    assert isinstance(list(client.chat("one", ask("hello"), GREEDY))[-1], Done)


def _parent(queue: multiprocessing.Queue[int], log: str, question: str) -> None:
    """A parent that dies without saying goodbye, its child in the middle of something."""
    client = WorkerClient("fake", {}, Path(log))
    loaded(client)
    task = client.chat("one", ask(question), GREEDY)
    if question != "hang":
        next(iter(task))
    queue.put(client.pid)
    threading.Event().wait()


@pytest.mark.parametrize("question", ["slow long", "hang"])
def test_no_orphan_is_left_when_the_parent_is_killed(tmp_path: Path, question: str) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    parent = context.Process(target=_parent, args=(queue, str(tmp_path / "worker.log"), question))
    parent.start()
    try:
        grandchild = psutil.Process(queue.get(timeout=60))
    finally:  # what still runs when Python ends is waited for without an end
        parent.kill()
        parent.join()
        queue.close()
        queue.join_thread()
    _, alive = psutil.wait_procs([grandchild], timeout=30)
    for one in alive:
        one.kill()
    assert not alive
    assert grandchild.pid not in children()


@pytest.mark.parametrize(
    "model", ["slow-rehearsal", "failing-rehearsal"], ids=["in the middle of it", "after one that failed"]
)
def test_a_question_does_not_wait_for_the_rehearsal(spawn: Spawn, model: str) -> None:
    client = loaded(spawn(), model)
    *_, done = client.chat("one", ask("hello"), GREEDY)
    assert isinstance(done, Done)
    assert done.finish_reason == "stop"


def test_a_rehearsal_does_not_hold_up_the_end(spawn: Spawn) -> None:
    client = loaded(spawn(patience=Patience(close_s=30.0)), "slow-rehearsal")
    client.close()
    assert "did not close" not in client.log.read_text(encoding="utf-8")
    assert client._process.exitcode == 0
