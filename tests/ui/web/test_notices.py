"""The card above the message box, and what it offers."""

from __future__ import annotations

from typing import Any

import pytest

from backends.errors import (
    ModelNotFound,
    NotLoaded,
)
from backends.presets import Preset
from tests.support.tab import ASKED, CRASH
from ui.web import chat_flow, notices


@pytest.mark.parametrize(
    ("turns", "status", "of_tab", "of_model", "label"),
    [
        ((), "ready", None, None, None),
        ((), "crashed", None, CRASH, "action.restart"),
        ((), "crashed", NotLoaded(), CRASH, "action.restart"),
        ((), "empty", NotLoaded(), None, "action.load"),
        (chat_flow.fail(ASKED, CRASH), "ready", None, None, "action.ask_again"),
        (chat_flow.fail(ASKED, CRASH), "loading", None, None, None),
        ((), "empty", None, ModelNotFound(path="/x", detail="No."), "action.pick_model"),
        (chat_flow.fail(ASKED, CRASH), "ready", CRASH, None, "action.ask_again"),
        (chat_flow.fail(ASKED, CRASH), "loading", CRASH, None, None),
        ((), "ready", NotLoaded(), None, None),
    ],
    ids=[
        "all is well",
        "a crash",
        "a crash outranks the tab",
        "not loaded",
        "back again",
        "coming back",
        "lost",
        "another tab started it again",
        "another tab is starting it again",
        "loaded meanwhile",
    ],
)
def test_the_card_that_helps_most(
    turns: Any, status: str, of_tab: Any, of_model: Any, label: str | None
) -> None:
    card = notices.choose(turns, status, of_tab, of_model)
    assert (card.label if card else None) == label


@pytest.mark.parametrize("preset", list(Preset))
def test_less_memory_always_ends_on_the_cpu(preset: Preset) -> None:
    steps = [preset]
    while notices.lower_preset(steps[-1]) is not steps[-1]:
        steps.append(notices.lower_preset(steps[-1]))
        assert len(steps) < 8
    assert steps[-1] is Preset.CPU
