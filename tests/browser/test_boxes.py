"""Boxes that an answer names, on the picture: seen, reached by keyboard, and there again after a reload."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage, Served
from tests.browser.steps import ask, last_answer, wait_for_answer, wait_until_ready
from tests.browser.test_looks import probe

Shoot = Callable[[Page, str], None]
# The fake engine says what it was asked.
ANSWER = "A red circle[[125,250,375,583]] left of the blue square [[562,333,843,708]]"
CORNERS = "[[000,000,080,080;920,000,999,080;000,920,080,999;920,920,999,999;480,480,520,520]]"


def wait_until_whole(page: Page, count: int) -> None:
    """Wait for the buttons as well, with which the answer is drawn for the last time."""
    wait_for_answer(page, count)
    expect(last_answer(page).get_by_role("button", name="Copy")).to_be_visible()


@pytest.mark.parametrize("look", ["wide light", "wide dark", "narrow light", "narrow dark"])
def test_an_answer_points_at_things(
    look: str, fake_page: Served, open_page: OpenPage, picture: Path, shoot: Shoot
) -> None:
    width = 375 if "narrow" in look else 1280
    page = open_page(fake_page, width=width, dark="dark" in look)
    wait_until_ready(page)
    ask(page, f"{ANSWER}, and what the corners and the middle hold {CORNERS}", picture)
    wait_until_whole(page, 1)
    figure = last_answer(page).locator(".sn-marked")
    image = figure.get_by_role("img")
    assert "2. left of the blue square: 56–84 % across, 33–71 % down" in (image.get_attribute("alt") or "")
    drawn, box = image.bounding_box(), figure.locator("[data-number='1'] .sn-edge").bounding_box()
    assert drawn is not None
    assert box is not None
    assert (box["x"] - drawn["x"]) / drawn["width"] == pytest.approx(0.125, abs=0.02)
    assert (box["y"] + box["height"] - drawn["y"]) / drawn["height"] == pytest.approx(0.583, abs=0.02)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(probe("unnamed.js")) == []
    assert page.evaluate(probe("poor_contrast.js")) == []
    shoot(page, f"boxes {look}".replace(" ", "-"))


def test_boxes_are_reached_by_keyboard_copied_as_said_and_there_after_a_reload(
    fake_page: Served, open_page: OpenPage, picture: Path
) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    ask(page, "what is it?", picture)
    wait_for_answer(page, 1)
    expect(last_answer(page).locator(".sn-marked")).to_have_count(0)
    ask(page, ANSWER)
    wait_until_whole(page, 2)

    def check() -> None:
        figure = last_answer(page).locator(".sn-marked")
        button = figure.get_by_role("button", name="A red circle")
        button.focus()
        page.keyboard.press("Enter")
        expect(button).to_have_attribute("aria-pressed", "true")
        expect(figure.locator("[data-number='1']")).to_have_css("opacity", "1")
        expect(figure.locator("[data-number='2']")).to_have_css("opacity", "0.12")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(button).to_have_attribute("aria-pressed", "false")
        expect(figure.locator("[data-number='1']")).to_have_css("opacity", "0.12")
        page.keyboard.press("Enter")
        expect(figure.locator("[data-number='1']")).to_have_css("opacity", "1")

    check()
    last_answer(page).get_by_role("button", name="Copy").click()
    assert ANSWER in page.evaluate("navigator.clipboard.readText()")
    page.reload()
    expect(last_answer(page).locator(".sn-marked img")).to_have_js_property("naturalWidth", 320)
    check()
    page.locator("#language").get_by_text("中").click()
    expect(last_answer(page).locator("figcaption")).to_have_text("在图片中标出")
