"""The line below the buttons while a checkpoint is converted."""

from __future__ import annotations

from dataclasses import replace
from html import unescape
from typing import Any

import pytest

from backends.messages import Progress
from backends.service import ModelState
from tests.support.tab import Tab, given
from ui.i18n import Translator
from ui.web.load_line import load_line
from ui.web.panels import header
from ui.web.panels.setup import buttons
from ui.web.route import Route
from ui.web.wiring_model import refresh

# Where the line stands among what the tick gives (see `Page.live`).
NOTE = 6
SAY = Translator("en")
CONVERTING = ModelState("loading", progress=Progress("converting", 34, 100), left_s=12.3)


def test_it_says_how_far_and_how_long() -> None:
    line = unescape(load_line(CONVERTING, SAY))
    assert "Converting once for llama.cpp, 34 % - about 12 s left" in line
    assert 'role="progressbar"' in line
    assert 'aria-valuenow="34"' in line


def test_comparing_says_its_steps_and_its_time() -> None:
    comparing = ModelState("loading", progress=Progress("comparing", 2, 4), left_s=6.0, lasted_s=15.0)
    line = unescape(load_line(comparing, SAY))
    assert "Comparing with transformers what llama.cpp sees, once (2 / 4) - about 6.0 s left" in line
    assert 'aria-valuenow="50"' in line
    line = unescape(load_line(replace(comparing, left_s=None), SAY))
    assert "once (2 / 4) - 15 s so far" in line


def test_comparing_that_has_not_begun_has_no_share() -> None:
    line = load_line(ModelState("loading", progress=Progress("comparing", 0, 0), lasted_s=15.0), SAY)
    assert 'role="progressbar"' in line
    assert "15 s so far" in line
    assert "valuenow" not in line
    assert "<svg" not in line


@pytest.mark.parametrize(
    "state",
    [
        ModelState(),
        ModelState("loading"),
        ModelState("loading", progress=Progress("read", 1, 2)),
        ModelState("ready", progress=Progress("converting", 1, 2)),
    ],
    ids=["empty", "begun", "reading", "ready"],
)
def test_other_loads_have_no_line(state: ModelState) -> None:
    assert load_line(state, SAY) == ""


def test_the_button_and_the_header_say_the_same() -> None:
    load, cancel = buttons(CONVERTING, Route("load"), SAY, possible=True)
    assert given(load)["value"] == "Converting…"
    assert given(cancel)["value"] == "Cancel"
    assert "Converting 34 %" in header.status_html(CONVERTING, SAY)


def test_the_tick_shows_it(tab: Tab) -> None:
    state: Any = tab.service._state
    state.status, state.progress, state.left_s = "loading", Progress("converting", 34, 100), 12.3
    assert "about 12 s left" in refresh(tab.context, tab.session)[NOTE]
    state.left_s = 8.0
    assert "about 8.0 s left" in refresh(tab.context, tab.session)[NOTE]
