"""The section on converted files: asked twice before anything goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backends.service.converted import ConvertedUsage
from tests.support.fake_service import GIB
from tests.support.tab import Tab
from ui.i18n import Translator
from ui.web.panels.converted import About, view
from ui.web.redrawing import converted_updates
from ui.web.wiring_converted import ask, keep, remove

SAY, ZH = Translator("en"), Translator("zh")
CACHE = Path("/data/converted")
NOTHING = ConvertedUsage(CACHE, 0, 0, 0, 40 * GIB)
SOME = ConvertedUsage(CACHE, 3 * GIB, 2, GIB, 40 * GIB)
IN_USE = ConvertedUsage(CACHE, GIB, 1, GIB, 40 * GIB)


@pytest.mark.parametrize(
    ("about", "visible", "pressed", "asked"),
    [
        (About(NOTHING), False, False, False),
        (About(SOME), True, True, False),
        (About(SOME, asking=True), True, False, True),
        (About(IN_USE), True, False, False),
        (About(IN_USE, asking=True), True, False, False),
        (About(NOTHING, freed=3 * GIB), True, False, False),
    ],
    ids=["nothing", "some", "asked", "all in use", "in use meanwhile", "cleared"],
)
def test_what_can_be_pressed(about: About, visible: bool, pressed: bool, asked: bool) -> None:
    shown = view(SAY, about)
    assert shown["box"].props["visible"] is visible
    clear = shown["clear"].props
    assert (clear["visible"] and clear["interactive"]) is pressed
    assert (shown["remove"].props["visible"], shown["keep"].props["visible"]) == (asked, asked)


def test_what_is_said() -> None:
    said = view(SAY, About(SOME))
    assert said["box"].props["label"] == "Converted files · 3.0 GB"
    about = str(said["about"].value)
    for words in ("3.0 GB, models: 2", "beyond 40.0 GB", "1.0 GB belong to the loaded model and stay"):
        assert words in about
    assert "Remove 2.0 GB?" in str(view(SAY, About(SOME, asking=True))["about"].value)
    assert "2.0 GB came free" in str(view(SAY, About(IN_USE, freed=2 * GIB))["about"].value)
    assert "Nothing could be removed" in str(view(SAY, About(SOME, freed=0))["about"].value)
    assert "删除 2.0 GB？" in str(view(ZH, About(SOME, asking=True))["about"].value)


def test_nothing_goes_before_the_second_press(tab: Tab) -> None:
    tab.service.kept_files = SOME
    remove(tab.context, tab.session)
    assert tab.service.kept_files is SOME
    ask(tab.context, tab.session)
    keep(tab.context, tab.session)
    remove(tab.context, tab.session)
    assert tab.service.kept_files is SOME
    ask(tab.context, tab.session)
    remove(tab.context, tab.session)
    assert tab.service.kept_files.nbytes == GIB
    assert tab.session.came_free == 2 * GIB


def test_it_is_sent_when_it_changes(tab: Tab) -> None:
    def sent() -> list[Any]:
        return [update for update in converted_updates(tab.context, tab.session) if len(update) > 1]

    assert sent()
    assert not sent()
    tab.service.kept_files = SOME
    assert sent()
