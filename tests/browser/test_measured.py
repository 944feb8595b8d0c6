"""Predicted beside measured, as a person sees it with the bundled model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenPage, Served
from tests.browser.steps import ask, wait_for_answer, wait_until_ready


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_measured_bars_appear_after_the_first_answer(
    dark: bool, starter_page: Served, open_page: OpenPage, picture: Path
) -> None:
    page = open_page(starter_page, dark=dark)
    wait_until_ready(page)
    ask(page, "How many shapes are there?", picture)
    wait_for_answer(page, 1)
    held = page.locator("#plan .sn-held")
    expect(held).to_have_count(1)
    expect(held).to_contain_text("tokens; expected")
    bar = held.get_by_role("img")
    expect(bar).to_have_accessible_name(
        re.compile(r"^RAM: was .* with \d+ tokens; expected .*; Weights: .*, All else, measured: ")
    )
    expect(page.locator("#plan .sn-legend")).to_contain_text("All else, measured")
    # Under the predicted bar, as long as it, and drawn in a colour of its own.
    predicted = page.locator("#plan .sn-meter > svg.sn-bar").first.bounding_box()
    measured = bar.bounding_box()
    assert predicted is not None
    assert measured is not None
    assert measured["y"] >= predicted["y"] + predicted["height"]
    assert (measured["x"], measured["width"]) == (predicted["x"], predicted["width"])
    colours = {
        kind: held.locator(f"rect.{kind}").evaluate("piece => getComputedStyle(piece).fill")
        for kind in ("c-weights", "c-rest")
    }
    assert len(set(colours.values())) == 2
    assert "rgb(0, 0, 0)" not in colours.values()
    page.get_by_text("中", exact=True).click()
    expect(held).to_contain_text("实测")
    expect(bar).to_have_accessible_name(re.compile("权重: .*其余（实测）: "))
    page.get_by_text("EN", exact=True).click()
    expect(held).to_contain_text("tokens; expected")
