"""Two clicks at once: each handler of a tab decides alone, and the second sees what the first has done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from backends.errors import ContextExceeded
from backends.placement.types import PlanRequest
from backends.presets import Preset
from tests.support.climbing_tab import PATIENCE_S
from tests.support.tab import ASKED, Tab
from ui.i18n import LANGUAGES, Translator
from ui.web import chat_flow, kept, planning, wiring_chat
from ui.web.sessions import Session
from ui.web.wiring_converted import ask, remove
from ui.web.wiring_model import begin_load, current_notice

DRAFT: dict[str, Any] = {"text": "a draft", "files": []}
TOO_LONG = ContextExceeded(needed_tokens=5000, context_tokens=2048)
TURN: Any = SimpleNamespace(action="regenerate", turn="", text="")
STEP: Any = SimpleNamespace(rung="nf4")
OTHER = kept.to_text(PlanRequest("/models/llava", Preset.LOW))

PRESSES: dict[str, Callable[[Tab], object]] = {
    "a question": lambda tab: tab.handlers.submit(DRAFT, tab.request),
    "a turn's button": lambda tab: tab.handlers.turn_act(TURN, DRAFT, tab.request),
    "new chat": lambda tab: tab.handlers.clear(tab.request),
    "the card's button": lambda tab: tab.handlers.act(DRAFT, tab.request),
    "another step": lambda tab: tab.handlers.step(STEP, DRAFT, tab.request),
    "the card is put away": lambda tab: tab.handlers.dismiss(tab.request),
    "load": lambda tab: begin_load(tab.context, tab.session),
    "what was kept comes back": lambda tab: planning.restore(tab.context, tab.session, OTHER),
}


def others_wait(session: Session) -> bool:
    """Whether another handler of the tab could not begin now."""
    free: list[bool] = []

    def another() -> None:
        free.append(session.deciding.acquire(blocking=False))
        if free[0]:
            session.deciding.release()

    thread = threading.Thread(target=another)
    thread.start()
    thread.join()
    return not free[0]


def until(what: Callable[[], bool]) -> None:
    """Give a thread of the page time; nothing here depends on how much."""
    begun, pause = time.monotonic(), threading.Event()
    while not what():
        assert time.monotonic() - begun < PATIENCE_S
        pause.wait(0.01)


@pytest.mark.parametrize("name", PRESSES)
def test_what_is_looked_at_stays_so_until_it_is_acted_on(
    name: str, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def watched(inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is threading.main_thread():
                seen.append(others_wait(tab.session))
            return inner(*args, **kwargs)

        return call

    tab.session.turns, tab.session.error = chat_flow.fail(ASKED, TOO_LONG), TOO_LONG
    for method in ("state", "plan", "inspect", "usable"):
        monkeypatch.setattr(tab.service, method, watched(getattr(tab.service, method)))
    monkeypatch.setattr(wiring_chat, "conversation_view", watched(wiring_chat.conversation_view))
    PRESSES[name](tab)
    tab.loader.wait()
    assert seen
    assert all(seen)
    assert not others_wait(tab.session), "and then the next may begin"


def test_a_load_that_is_begun_twice_goes_on(tab: Tab) -> None:
    tab.service.load_hold = True
    begin_load(tab.context, tab.session)
    until(lambda: bool(tab.service.loads))
    begin_load(tab.context, tab.session)
    assert not tab.service.go.is_set(), "nothing was called off"
    tab.service.go.set()
    tab.loader.wait()
    assert len(tab.service.loads) == 1
    assert tab.service.state().status == "ready"


def test_a_press_that_was_meant_for_the_card_before_does_nothing(tab: Tab) -> None:
    tab.session.turns, tab.session.error = chat_flow.fail(ASKED, TOO_LONG), TOO_LONG
    card = current_notice(tab.context, tab.session)
    assert card is not None
    for language in LANGUAGES:
        tab.session.language = language
        tab.handlers.act(None, tab.request, "Use less memory")
        assert tab.session.turns, "another card's word"
    tab.handlers.act(None, tab.request, card.button(Translator(tab.session.language)))
    assert tab.session.turns == ()


def test_files_are_removed_once_and_nobody_waits_for_that(tab: Tab, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[bool] = []

    def clear() -> int:
        waited.append(others_wait(tab.session))
        remove(tab.context, tab.session)  # the second click, while the first is at work
        return 1

    monkeypatch.setattr(tab.service, "clear_converted", clear)
    ask(tab.context, tab.session)
    remove(tab.context, tab.session)
    assert waited == [False]
    assert tab.session.came_free == 1


def test_the_tab_that_asks_for_something_else_loads_that(tab: Tab) -> None:
    tab.service.load_hold = True
    begin_load(tab.context, tab.session)
    until(lambda: bool(tab.service.loads))
    tab.session.request = replace(tab.context.start, preset=Preset.LOW)
    begin_load(tab.context, tab.session)
    tab.loader.wait()
    assert tab.service.loads[-1].request.preset is Preset.LOW
