"""Several people, one model: who is answered when, and what stop does."""

from __future__ import annotations

import pytest

from backends.errors import ContextExceeded, NotLoaded, OutOfGpuMemory, SnugError
from backends.messages import Done, Progress, Queued, TextDelta
from backends.service import Service
from tests.support.asking import GREEDY, Asker
from tests.support.plans import make_plan
from tests.support.processes import ask


def test_an_answer_streams_and_ends_with_done(ready: Service) -> None:
    events = list(ready.chat("tab", ask("hello"), GREEDY))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)).endswith("said: hello")
    assert isinstance(events[-1], Done)
    assert not ready.state().busy


def test_two_tabs_are_served_one_after_the_other_and_told_their_place(ready: Service) -> None:
    diary: list[str] = []
    first = Asker(ready, "first", "slow long", diary)
    first.wait_for_text()
    second = Asker(ready, "second", "hello", diary)
    second.wait_for_position(1)
    third = Asker(ready, "third", "hello", diary)
    third.wait_for_position(2)
    assert (ready.state().busy, ready.state().waiting) == (True, 2)
    ready.cancel("first")
    assert [asker.done.finish_reason for asker in (first, second, third)] == ["cancelled", "stop", "stop"]
    assert diary == ["first", "second", "third"]
    assert first.positions == []
    assert second.positions == [1]
    assert third.positions in ([2, 1], [2]), "places only go down"
    assert not any(isinstance(event, TextDelta) for event in second.events[: second.events.index(Queued(1))])


def test_a_session_with_many_questions_does_not_keep_others_waiting(ready: Service) -> None:
    running = Asker(ready, "busy", "slow long")
    running.wait_for_text()
    more = Asker(ready, "busy", "hello")
    more.wait_for_position(1)
    other = Asker(ready, "other", "hello")
    other.wait_for_position(1)
    more.wait_for_position(2)
    assert ready.state().waiting == 2
    ready.cancel("busy")
    assert other.done.finish_reason == "stop"
    assert more.done.finish_reason == running.done.finish_reason == "cancelled"
    assert more.text == "", "stopping stops the session's waiting questions, too"


def test_stop_ends_the_answer_within_a_token(ready: Service) -> None:
    asker = Asker(ready, "tab", "slow long")
    asker.wait_for(lambda events: sum(isinstance(event, TextDelta) for event in events) >= 3)
    at_stop = len(asker.text.split())
    ready.cancel("tab")
    assert asker.done.finish_reason == "cancelled"
    assert asker.done.usage.completion_tokens == len(asker.text.split()) <= at_stop + 2


def test_the_answer_after_a_stop_is_whole(ready: Service) -> None:
    asker = Asker(ready, "tab", "slow long")
    asker.wait_for_text()
    ready.cancel("tab")
    asker.finish()
    again = Asker(ready, "tab", "hello")
    assert again.done.finish_reason == "stop"
    assert again.text == "I see 0 pictures. You said: hello"


def test_who_stops_while_waiting_leaves_the_queue(ready: Service) -> None:
    first = Asker(ready, "first", "slow long")
    first.wait_for_text()
    second = Asker(ready, "second", "hello")
    second.wait_for_position(1)
    third = Asker(ready, "third", "hello")
    third.wait_for_position(2)
    ready.cancel("second")
    assert second.done.finish_reason == "cancelled"
    assert second.text == ""
    third.wait_for_position(1)
    ready.cancel("first")
    assert third.done.finish_reason == "stop"


def test_closing_the_iterator_stops_the_answer_and_frees_the_turn(ready: Service) -> None:
    stream = ready.chat("tab", ask("slow long"), GREEDY)
    while not isinstance(next(stream), TextDelta):
        pass
    stream.close()  # type: ignore[attr-defined]
    assert not ready.state().busy
    assert Asker(ready, "other", "hello").done.finish_reason == "stop"


def test_an_iterator_that_is_never_started_holds_nobody_up(ready: Service) -> None:
    ready.chat("nobody", ask("hello"), GREEDY)
    assert Asker(ready, "tab", "hello").done.finish_reason == "stop"


def test_stop_without_an_answer_does_nothing(ready: Service) -> None:
    ready.cancel("tab")
    assert Asker(ready, "tab", "hello").done.finish_reason == "stop"


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        pytest.param("oom", OutOfGpuMemory, id="no GPU memory left"),
        pytest.param("word " * 600, ContextExceeded, id="too long a conversation"),
    ],
)
def test_an_error_ends_one_answer_not_the_model(ready: Service, question: str, kind: type[SnugError]) -> None:
    with pytest.raises(kind):
        list(ready.chat("tab", ask(question), GREEDY))
    assert ready.state().status == "ready"
    assert Asker(ready, "tab", "hello").done.finish_reason == "stop"


def test_without_a_model_there_is_no_answer(service: Service) -> None:
    with pytest.raises(NotLoaded):
        list(service.chat("tab", ask("hello"), GREEDY))
    assert not service.state().busy


def test_a_question_asked_while_the_model_loads_is_answered_then(service: Service) -> None:
    service.load(make_plan("slow-load"))
    asker = Asker(service, "tab", "hello")
    assert asker.done.finish_reason == "stop"
    assert any(isinstance(event, Progress) and event.stage == "read" for event in asker.events)


def test_a_question_that_waits_for_a_load_that_fails_learns_why(service: Service) -> None:
    service.load(make_plan("slow-load"))
    asker = Asker(service, "tab", "hello")
    asker.wait_for(bool)
    service.cancel_load()
    asker.finish()
    assert isinstance(asker.error, NotLoaded)


def test_unloading_ends_a_running_answer_as_cancelled(ready: Service) -> None:
    asker = Asker(ready, "tab", "slow long")
    asker.wait_for_text()
    ready.unload()
    assert asker.done.finish_reason == "cancelled"
