"""A real GGUF model in a process of its own: loaded, asked, stopped, measured, given back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from backends.conversion.types import Conversion, WeightType
from backends.errors import Cancelled, ContextExceeded, ModelDamaged, WorkerCrashed
from backends.messages import Done, Message, Progress, Role, SamplingParams, TextDelta, TextPart
from backends.placement.types import Plan
from backends.worker.client import Patience
from backends.worker.task import Task
from tests.backends.worker.conftest import Spawn
from tests.support import tiny_gguf, tiny_models
from tests.support.plans import make_plan
from tests.support.processes import ask

# Seconds of answering: a stop arrives before the end, also where the processor is busy with other things.
CONTEXT = 16_384
LONG = SamplingParams(temperature=0.0, max_tokens=16_000)
# A busy machine is no hung process.
PATIENT = Patience(cancel_s=120.0, cancel_load_s=120.0)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "endless.gguf"
    return tiny_gguf.write_text(path, endless=True, context=CONTEXT)


def test_load_ask_stop_and_ask_again(spawn: Spawn, endless: Path) -> None:
    client = spawn("llamacpp", PATIENT)
    load = client.load(make_plan(endless, context_tokens=CONTEXT))
    stages = [event.stage for event in load if isinstance(event, Progress)]
    assert stages[0] in ("start", "read")
    assert load.report is not None
    assert load.report.engine == "llamacpp"

    answer = client.chat("tab", ask("Hi"), LONG)
    stream = iter(answer)
    while not isinstance(next(stream), TextDelta):
        pass
    answer.cancel()
    stopped = list(stream)[-1]
    assert isinstance(stopped, Done)
    assert stopped.finish_reason == "cancelled"

    again = client.chat("tab", ask("Hi"), SamplingParams(temperature=0.0, max_tokens=5))
    done = list(again)[-1]
    assert isinstance(done, Done)
    assert done.usage.completion_tokens == 5
    assert done.usage.reused_tokens > 0
    (memory,) = again.memory
    assert memory.peak_bytes > memory.weights_bytes > 0
    client.close()
    assert not client.alive


def test_a_question_that_is_too_long_is_refused(spawn: Spawn, endless: Path) -> None:
    client = spawn("llamacpp")
    list(client.load(make_plan(endless, context_tokens=1024)))
    with pytest.raises(ContextExceeded):
        list(client.chat("tab", (Message(Role.USER, (TextPart("x" * 3000),)),), LONG))
    assert client.alive


def test_a_broken_file_is_named_and_the_process_lives(spawn: Spawn, tmp_path: Path, endless: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(endless.read_bytes()[:-500])
    client = spawn("llamacpp")
    with pytest.raises(ModelDamaged, match=r"broken\.gguf is truncated"):
        list(client.load(make_plan(broken)))
    load = client.load(make_plan(endless))
    list(load)
    assert load.report is not None


def test_the_librarys_own_words_are_in_the_log(spawn: Spawn, tmp_path: Path) -> None:
    odd = tiny_gguf.write_text(tmp_path / "odd.gguf", change=lambda writer: writer.add_tokenizer_pre("pear"))
    client = spawn("llamacpp")
    with pytest.raises(Exception, match="does not know the tokenizer pear"):
        list(client.load(make_plan(odd)))
    client.close()
    assert "unknown pre-tokenizer type" in client.log.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write_llava(tmp_path_factory.mktemp("checkpoint") / "model")


def until_compared(load: Task) -> None:
    """Wait until the process that compares layouts says so."""
    for event in load:
        if isinstance(event, Progress) and event.stage == "comparing" and event.total:
            return


def converting(folder: Path, cache: Path) -> Plan:
    conversion = Conversion(str(cache), WeightType.Q8_0, WeightType.F16, 0, 0)
    plan = make_plan(folder, precision="q8_0", device_map={"model": "cpu"})
    return replace(plan, engine="llamacpp", conversion=conversion)


def test_a_checkpoint_is_compared_and_converted_once(spawn: Spawn, tmp_path: Path, checkpoint: Path) -> None:
    cache = tmp_path / "cache"
    first = spawn("llamacpp")
    load = first.load(converting(checkpoint, cache))
    stages = list(dict.fromkeys(event.stage for event in load if isinstance(event, Progress)))
    # A reader that is slow gets the last of some steps only, in their order.
    assert stages == [
        step for step in ("start", "comparing", "converting", "read", "place") if step in stages
    ]
    assert stages[-1] == "place"
    assert sorted(path.suffix for path in cache.iterdir() if path.is_file()) == [".gguf", ".gguf", ".json"]
    assert load.report is not None
    assert (load.report.precision, load.report.supports_images) == ("q8_0", True)
    answers = [list(first.chat("tab", ask("Hi"), SamplingParams(temperature=0.0, max_tokens=5)))[-1]]
    # Torch, which comparing takes, was never in this process.
    assert psutil.Process(first.pid).memory_info().rss < 400 << 20
    assert psutil.Process(first.pid).children() == []
    first.close()
    second = spawn("llamacpp")
    again = second.load(converting(checkpoint, cache))
    assert not {"comparing", "converting"} & {event.stage for event in again if isinstance(event, Progress)}
    answers += [list(second.chat("tab", ask("Hi"), SamplingParams(temperature=0.0, max_tokens=5)))[-1]]
    tokens = [answer.token_ids for answer in answers if isinstance(answer, Done)]
    assert len(tokens) == 2
    assert tokens[0] == tokens[1]


def test_calling_off_a_comparison_leaves_no_process(spawn: Spawn, tmp_path: Path, checkpoint: Path) -> None:
    cache = tmp_path / "cache"
    client = spawn("llamacpp", PATIENT)
    load = client.load(converting(checkpoint, cache))
    until_compared(load)
    load.cancel()
    with pytest.raises(Cancelled):
        list(load)
    assert client.alive
    assert psutil.Process(client.pid).children() == []
    assert [path.name for path in cache.iterdir() if path.name != "locks"] == []


def test_a_worker_that_is_killed_takes_its_comparison_with_it(
    spawn: Spawn, tmp_path: Path, checkpoint: Path
) -> None:
    cache = tmp_path / "cache"
    client = spawn("llamacpp")
    load = client.load(converting(checkpoint, cache))
    until_compared(load)
    comparing = psutil.Process(client.pid).children()
    assert comparing
    client.kill()
    with pytest.raises(WorkerCrashed):
        list(load)
    _, alive = psutil.wait_procs(comparing, timeout=120)
    assert alive == []
