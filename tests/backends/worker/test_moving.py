"""A loaded model takes other places in its process: what the parent sees of it, with real processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from backends.errors import (
    Cancelled,
    CannotMove,
    InternalError,
    OutOfRam,
    SnugError,
    WorkerCrashed,
    WorkerHung,
)
from backends.images import import_image
from backends.messages import Done, Message, Progress, Role, SamplingParams, TextPart
from backends.models.catalog import resolve
from backends.models.identify import identify
from backends.placement.planner import plan as make_real_plan
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from backends.settings import load_settings
from backends.worker.client import Patience, WorkerClient
from backends.worker.environment import THREADS
from backends.worker.task import Task
from tests.support import machines
from tests.support.plans import make_plan
from tests.support.processes import ask

Spawn = Callable[..., WorkerClient]

GREEDY = SamplingParams(temperature=0.0, max_tokens=200)


def loaded(client: WorkerClient, model: str = "model") -> WorkerClient:
    for _ in client.load(make_plan(model, weights_bytes=1000)):
        pass
    return client


def larger(model: str = "model") -> Plan:
    """Twice the weights in RAM, so that there is something to move."""
    return replace(make_plan(model, weights_bytes=2000), context_tokens=99)


def answers(client: WorkerClient) -> bool:
    *_, done = client.chat("one", ask("hello"), GREEDY)
    return isinstance(done, Done) and done.finish_reason == "stop"


def until_moving(task: Task) -> None:
    for event in task:
        if isinstance(event, Progress) and event.done == event.total // 2:
            return


def test_a_move_tells_its_bytes_and_what_it_made(spawn: Spawn) -> None:
    client = loaded(spawn())
    task = client.move(larger())
    progress = [event for event in task if isinstance(event, Progress)]
    assert {event.stage for event in progress} == {"move"}
    assert (progress[-1].done, progress[-1].total) == (1000, 1000)
    assert task.report is not None
    assert (task.report.moved, task.report.context_tokens) == (True, 99)
    assert not client.busy
    assert answers(client)


def test_an_answer_that_was_begun_before_ends_first(spawn: Spawn) -> None:
    client = loaded(spawn())
    answer = client.chat("one", ask("slow and whole"), GREEDY)
    assert list(client.move(larger()))
    assert answer.ended
    *_, done = answer
    assert isinstance(done, Done)
    assert done.finish_reason == "stop"


@pytest.mark.parametrize(
    ("model", "change", "error", "lost"),
    [
        ("model", {"precision": "bf16"}, CannotMove, False),
        ("failing-move", {}, OutOfRam, False),
        ("losing-move", {}, OutOfRam, True),
    ],
    ids=["what needs the files", "no room", "no room, and no way back"],
)
def test_a_failure_says_whether_the_model_is_still_there(
    spawn: Spawn, model: str, change: dict[str, str], error: type[SnugError], *, lost: bool
) -> None:
    client = loaded(spawn(), model)
    task = client.move(replace(larger(model), **change))  # type: ignore[arg-type]
    with pytest.raises(error):
        list(task)
    assert (task.lost, client.alive) == (lost, True)
    if lost:
        with pytest.raises(SnugError):
            answers(client)
    else:
        assert answers(client)


def test_nothing_is_moved_before_something_is_loaded(spawn: Spawn) -> None:
    task = spawn().move(larger())
    with pytest.raises(InternalError):
        list(task)
    assert task.lost


def test_stopped_on_its_way_or_before_it_began(spawn: Spawn) -> None:
    client = loaded(spawn(), "slow-move")
    first, second = client.move(larger("slow-move")), client.move(larger("slow-move"))
    second.cancel()
    until_moving(first)
    first.cancel()
    for task in (first, second):
        with pytest.raises(Cancelled):
            list(task)
        assert not task.lost
    assert answers(client)


@pytest.mark.parametrize("way", ["by itself", "by force"])
def test_a_crash_names_what_it_was_doing(spawn: Spawn, way: str) -> None:
    model = "crash-move" if way == "by itself" else "slow-move"
    client = loaded(spawn(), model)
    task = client.move(larger(model))
    if way == "by force":
        until_moving(task)
        psutil.Process(client.pid).kill()
    with pytest.raises(WorkerCrashed) as caught:
        list(task)
    assert str(caught.value.values["stage"]) == "rearranging the model"
    assert not client.alive


def test_one_that_hangs_is_ended(spawn: Spawn) -> None:
    client = loaded(spawn(patience=Patience(cancel_move_s=0.3)), "hang-move")
    task = client.move(larger("hang-move"))
    until_moving(task)
    assert client.busy
    task.cancel()
    with pytest.raises(WorkerHung) as caught:
        list(task)
    assert caught.value.values["seconds"] == 0.3


def test_close_in_the_middle_of_it(spawn: Spawn) -> None:
    client = loaded(spawn(), "slow-move")
    task = client.move(larger("slow-move"))
    until_moving(task)
    client.close()
    with pytest.raises(SnugError):
        list(task)


class Starter:
    """The bundled model in the real engine, planned by hand for a CPU and a folder on the disk."""

    def __init__(self, client: WorkerClient, home: Path) -> None:
        self.client = client
        settings = load_settings({"SNUG_HOME": str(home)})
        self.model = identify(resolve("starter", settings))
        picture = min(settings.examples.glob("*.png"))
        self.picture = import_image(picture, picture.name, settings)
        self.folder = home / "offload"

    def plan(self, *on_disk: str, **changes: object) -> Plan:
        """Everything in RAM but the modules whose names end like that."""
        places = tuple(
            (module.name, "disk" if module.name.endswith(on_disk) else "cpu") for module in self.model.modules
        )
        overrides = Overrides(device_map=places, precision="fp32", offload_dir=str(self.folder), **changes)  # type: ignore[arg-type]
        request = PlanRequest("starter", Preset.CUSTOM, overrides)
        return make_real_plan(machines.machine(ram=16), self.model, request)

    def answer(self, conversation: str) -> Done:
        messages = (Message(Role.USER, (self.picture, TextPart("Describe the picture."))),)
        *_, done = self.client.chat(conversation, messages, GREEDY)
        assert isinstance(done, Done)
        return done

    def places(self, task: Task) -> set[str]:
        list(task)
        assert task.report is not None
        return {device for _, device in task.report.device_map}


@pytest.mark.timeout(300)
def test_the_starter_moves_to_the_disk_and_back_and_answers_the_same(spawn: Spawn, tmp_path: Path) -> None:
    home = tmp_path / "一个 home"
    client = spawn("transformers", environment=dict(THREADS))
    starter = Starter(client, home)
    assert starter.places(client.load(starter.plan())) == {"cpu"}
    before = starter.answer("one")
    assert len(before.token_ids) > 5

    task = client.move(starter.plan("layers.1", "layers.2"))
    assert starter.places(task) == {"cpu", "disk"}
    assert list(starter.folder.rglob("*.safetensors"))
    from_disk = starter.answer("two")

    task = client.move(starter.plan())
    assert starter.places(task) == {"cpu"}
    assert not list(starter.folder.rglob("*.safetensors")), "what rests nowhere is not kept"
    back = starter.answer("three")
    assert from_disk.token_ids == before.token_ids
    assert back.token_ids == before.token_ids

    # The same map with another context: nothing moves, and the next question finds its room.
    task = client.move(starter.plan(context_tokens=1024))
    events = [event for event in task if isinstance(event, Progress)]
    assert events[-1].total == 0
    assert task.report is not None
    assert task.report.context_tokens == 1024
    assert starter.answer("four").token_ids == before.token_ids


@pytest.mark.timeout(300)
def test_the_starter_stopped_half_way_answers_the_same(spawn: Spawn, tmp_path: Path) -> None:
    client = spawn("transformers", environment=dict(THREADS))
    starter = Starter(client, tmp_path)
    list(client.load(starter.plan()))
    before = starter.answer("one")
    task = client.move(starter.plan("layers.0", "layers.1", "layers.2", "layers.3"))
    for event in task:
        if isinstance(event, Progress) and event.done:
            task.cancel()
            break
    try:
        list(task)
    except Cancelled:
        assert not list(starter.folder.rglob("*.safetensors"))
    # So small a model may have arrived before the stop did; it is whole either way.
    assert not task.lost
    assert starter.answer("two").token_ids == before.token_ids
