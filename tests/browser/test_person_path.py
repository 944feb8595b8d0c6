"""One person's way through the real page with the bundled model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage, Served
from tests.browser.steps import ask, last_answer, turns, wait_for_answer, wait_until_ready

Shoot = Callable[[Page, str], None]


@pytest.mark.timeout(600)
def test_from_opening_to_recovering(
    starter_page: Served, open_page: OpenPage, picture: Path, shoot: Shoot
) -> None:
    page = open_page(starter_page)

    # What have I got, what will run, how fast?
    expect(page.locator("#hardware")).to_contain_text("RAM")
    expect(page.locator("#hardware")).to_contain_text("CPU")
    expect(page.locator("#plan")).to_contain_text("fits")
    expect(page.locator("#plan")).to_contain_text("tokens/s")
    wait_until_ready(page)
    shoot(page, "start")

    # Another preset, another plan, at once.
    page.get_by_role("combobox", name="Preset").click()
    page.get_by_role("option", name="CPU only").click()
    expect(page.locator("#preset .info-text")).to_contain_text("No GPU at all")
    expect(page.locator("#load")).to_be_enabled()
    page.get_by_role("combobox", name="Preset").click()
    page.get_by_role("option", name="Recommended").click()
    expect(page.locator("#load")).to_be_disabled()

    # An example, then a picture of one's own, then a follow-up.
    page.locator(".sn-example").first.click()
    answer = wait_for_answer(page, 1)
    expect(answer.locator(".sn-stats")).to_contain_text("image tokens")
    expect(answer.locator(".sn-markdown")).not_to_be_empty()
    ask(page, "How many circles are there?", picture)
    wait_for_answer(page, 2)
    ask(page, "What color is the square?")
    wait_for_answer(page, 3)
    expect(page.get_by_alt_text("Picture 1", exact=False)).to_have_count(2)
    shoot(page, "chat")

    # The model's process dies; the conversation and the draft stay.
    page.locator("#message textarea").fill("a draft that must survive")
    psutil.Process(starter_page.worker_pid).kill()
    card = page.get_by_role("alert")
    expect(card).to_contain_text("The model's process ended")
    expect(page.locator("#status")).to_contain_text("The model stopped")
    expect(turns(page)).to_have_count(3)
    shoot(page, "crash")
    page.get_by_role("button", name="Start again").click()
    wait_until_ready(page)
    expect(card).to_be_hidden()
    expect(turns(page)).to_have_count(3)
    expect(page.locator("#message textarea")).to_have_value("a draft that must survive")
    page.locator("#message textarea").press("Enter")
    wait_for_answer(page, 4)
    expect(last_answer(page).locator(".sn-markdown")).not_to_be_empty()

    # Unload says what came back.
    page.get_by_role("button", name="Unload").click()
    expect(page.locator("#setup-note")).to_contain_text("came back in")
    expect(page.locator("#status")).to_contain_text("No model loaded")
    ask(page, "Is anybody there?")
    expect(card).to_contain_text("No model is loaded.")
    page.get_by_role("button", name="Load the model").click()
    wait_until_ready(page)
    page.get_by_role("button", name="Ask again").click()
    wait_for_answer(page, 5)

    assert starter_page.process.memory_info().rss < 300 * 2**20


@pytest.mark.timeout(300)
def test_a_question_before_the_model_is_ready_is_answered_when_it_is(
    starter_page: Served, open_page: OpenPage
) -> None:
    page = open_page(starter_page)
    wait_until_ready(page)
    page.get_by_role("button", name="Unload").click()
    expect(page.locator("#status")).to_contain_text("No model loaded")
    page.locator("#load").click()
    ask(page, "What can you do?")
    wait_for_answer(page, 1)
