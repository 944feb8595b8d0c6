"""Drafts prepared while a person types: in the gaps, newest first, never in anybody's way."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from backends.errors import WorkerCrashed
from backends.messages import Done, ImagePart, Message, Role, TextPart
from backends.service import Service
from tests.support.asking import GREEDY, PATIENCE_S, Asker
from tests.support.plans import make_plan
from tests.support.processes import ask

PICTURE_TOKENS = 64


def draft(picture: str, text: str = "") -> tuple[Message, ...]:
    """An unfinished question about a picture."""
    image = ImagePart(Path(f"{picture}.png"), picture * 64, 8, 8)
    return (Message(Role.USER, (image, TextPart(text))),)


def wait_until_running(service: Service, session: str) -> None:
    """Until the session's draft is being prepared."""
    conversations = service._conversations

    def running() -> bool:
        priming = conversations._priming
        return priming is not None and priming.session == session and not priming.task.cancelled

    with service._host.changed:
        assert service._host.changed.wait_for(running, PATIENCE_S)


def wait_until_prepared(service: Service) -> None:
    """Until no draft is left."""
    conversations = service._conversations
    with service._host.changed:
        assert service._host.changed.wait_for(
            lambda: conversations._priming is None and not conversations._drafts, PATIENCE_S
        )


def reused(service: Service, session: str, messages: tuple[Message, ...]) -> int:
    done = list(service.chat(session, messages, GREEDY))[-1]
    assert isinstance(done, Done)
    return done.usage.reused_tokens


def test_the_question_about_a_prepared_picture_reuses_the_work(ready: Service) -> None:
    ready.prime("tab", draft("a"))
    wait_until_prepared(ready)
    assert reused(ready, "tab", draft("a", "What is it?")) >= PICTURE_TOKENS


def test_another_picture_reuses_nothing(ready: Service) -> None:
    ready.prime("tab", draft("a"))
    wait_until_prepared(ready)
    assert reused(ready, "tab", draft("b", "What is it?")) == 0


def test_prime_returns_at_once_and_gives_way_to_the_sessions_question(ready: Service) -> None:
    ready.prime("tab", draft("a", "slow-prime"))
    wait_until_running(ready, "tab")
    assert Asker(ready, "tab", "hello").done.finish_reason == "stop"
    assert ready._conversations._drafts == {}


def test_a_draft_gives_way_to_another_tabs_question_and_is_prepared_afterwards(ready: Service) -> None:
    ready.prime("tab", draft("a", "slow-prime"))
    wait_until_running(ready, "tab")
    assert Asker(ready, "other", "hello").done.finish_reason == "stop"
    wait_until_running(ready, "tab")


def test_a_draft_waits_while_somebody_is_answered(ready: Service) -> None:
    asker = Asker(ready, "other", "slow long")
    asker.wait_for_text()
    ready.prime("tab", draft("a"))
    assert ready._conversations._priming is None
    ready.cancel("other")
    asker.finish()
    wait_until_prepared(ready)
    assert reused(ready, "tab", draft("a", "hello")) >= PICTURE_TOKENS


def test_a_newer_draft_replaces_the_one_before(ready: Service) -> None:
    ready.prime("tab", draft("a", "slow-prime"))
    wait_until_running(ready, "tab")
    ready.prime("tab", draft("b"))
    wait_until_prepared(ready)
    assert reused(ready, "tab", draft("b", "hello")) >= PICTURE_TOKENS


def test_typing_on_does_not_start_again(ready: Service) -> None:
    ready.prime("tab", draft("a", "slow-prime"))
    wait_until_running(ready, "tab")
    before = ready._conversations._priming
    ready.prime("tab", draft("a", "slow-prime and more"))
    assert ready._conversations._priming is before


def test_a_draft_whose_picture_was_removed_is_dropped(ready: Service) -> None:
    ready.prime("tab", draft("a", "slow-prime"))
    wait_until_running(ready, "tab")
    ready.cancel_prime("tab")
    wait_until_prepared(ready)
    assert reused(ready, "tab", draft("a", "hello")) == 0


def test_drafts_of_two_tabs_are_both_prepared(ready: Service) -> None:
    ready.prime("one", draft("a"))
    ready.prime("two", draft("b"))
    wait_until_prepared(ready)
    assert reused(ready, "one", draft("a", "hello")) >= PICTURE_TOKENS
    assert reused(ready, "two", draft("b", "hello")) >= PICTURE_TOKENS


def test_a_draft_waits_for_a_model_that_is_loading(service: Service) -> None:
    stream = service.load(make_plan("slow-load"))
    service.prime("tab", draft("a"))
    list(stream)
    wait_until_prepared(service)
    assert reused(service, "tab", draft("a", "hello")) >= PICTURE_TOKENS


@pytest.mark.parametrize("end", ["killed", "by itself"])
def test_a_crash_while_preparing_is_told_and_the_draft_is_not_tried_again(ready: Service, end: str) -> None:
    if end == "killed":
        ready.prime("tab", draft("a", "slow-prime"))
        wait_until_running(ready, "tab")
        pid = ready.state().worker_pid
        assert pid is not None
        psutil.Process(pid).kill()
    else:
        ready.prime("tab", draft("a", "crash-prime"))
    wait_until_prepared(ready)
    state = ready.state()
    assert state.status == "crashed"
    assert isinstance(state.error, WorkerCrashed)
    assert str(state.error.values["stage"]) == "preparing a picture"
    list(ready.restart())
    assert ready._conversations._priming is None
    assert Asker(ready, "tab", "hello").done.finish_reason == "stop"


def test_without_a_model_or_a_message_nothing_happens(service: Service) -> None:
    service.prime("tab", ())
    service.prime("tab", ask("hello"))
    service.cancel_prime("nobody")
    assert service.state().status == "empty"
