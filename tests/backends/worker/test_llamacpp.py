"""A real GGUF model in a process of its own: loaded, asked, stopped, measured, given back."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.errors import ContextExceeded, ModelDamaged
from backends.messages import Done, Message, Progress, Role, SamplingParams, TextDelta, TextPart
from tests.backends.worker.conftest import Spawn
from tests.support import tiny_gguf
from tests.support.plans import make_plan
from tests.support.processes import ask

LONG = SamplingParams(temperature=0.0, max_tokens=900)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf.write_text(tmp_path_factory.mktemp("gguf") / "endless.gguf", endless=True)


def test_load_ask_stop_and_ask_again(spawn: Spawn, endless: Path) -> None:
    client = spawn("llamacpp")
    load = client.load(make_plan(endless, context_tokens=1024))
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

    with pytest.raises(ContextExceeded):
        list(client.chat("tab", (Message(Role.USER, (TextPart("x" * 3000),)),), LONG))
    client.close()
    assert not client.alive


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
