"""Checkpoints that lean on other folders: found, named by hand in a real browser, left with the model."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import ROOT, OpenPage, Served
from tests.browser.steps import choose, open_fold
from tests.browser.test_looks import probe

Shoot = Callable[[Page, str], None]
LORA, COGVLM = re.compile("^llava-v1.5-7b-tiny-lora$"), "cogvlm-tiny"
WORDS = ROOT / "tests" / "fixtures" / "cogvlm-chat" / "checkpoint" / "vicuna-7b-v1.5-tokenizer"


@pytest.fixture
def page(planned_page: Served, open_page: OpenPage) -> Page:
    opened = open_page(planned_page)
    open_fold(opened, "custom")
    return opened


def take(page: Page, model: str | re.Pattern[str]) -> None:
    page.get_by_role("combobox", name="Model", exact=True).click()
    page.get_by_role("option", name=model).click()


def test_what_a_lora_leans_on_is_found_and_shown(page: Page, shoot: Shoot) -> None:
    take(page, LORA)
    card = page.locator("#plan .sn-made-of")
    expect(card).to_contain_text(re.compile(r"Base model.*vicuna-7b-v1.5-tiny"))
    expect(card).to_contain_text(re.compile(r"Vision tower.*clip-vit-tiny"))
    expect(card).to_contain_text("v1 (found by Snug)")
    expect(page.locator("#base textarea")).to_have_attribute(
        "placeholder", re.compile("vicuna-7b-v1.5-tiny$")
    )
    expect(page.locator("#tokenizer")).to_be_hidden()
    shoot(page, "companions-lora")


def test_a_tokenizer_and_a_format_are_named_by_hand_and_go_with_their_model(page: Page, shoot: Shoot) -> None:
    take(page, COGVLM)
    expect(page.locator("#plan .sn-made-of")).to_contain_text("chat (found by Snug)")
    expect(page.locator("#base")).to_be_hidden()
    words = page.get_by_role("textbox", name="Tokenizer")
    words.fill(str(WORDS))
    words.press("Tab")
    expect(page.locator("#plan .sn-made-of")).to_contain_text(str(WORDS))
    choose(page, "Conversation format", "vqa")
    expect(page.locator("#plan .sn-made-of")).to_contain_text("vqa (by hand)")
    command = page.locator("#command textarea")
    expect(command).to_have_value(re.compile('--set "?tokenizer=.*--set template=vqa'))
    shoot(page, "companions-cogvlm")
    page.wait_for_function("(localStorage.getItem('snug-chosen') ?? '').includes('template=vqa')")
    page.reload()
    expect(page.locator("#plan .sn-made-of")).to_contain_text("vqa (by hand)")
    open_fold(page, "custom")
    expect(words).to_have_value(str(WORDS))
    page.get_by_role("button", name="Tokenizer:").click()
    expect(words).to_have_value("")
    take(page, "text-6b")
    expect(page.locator("#plan")).to_contain_text("Conversation format: back to automatic")
    expect(page.locator("#template")).to_be_hidden()
    expect(page.locator("#plan .sn-made-of")).to_have_count(0)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_on_a_narrow_screen(dark: bool, planned_page: Served, open_page: OpenPage, shoot: Shoot) -> None:
    page = open_page(planned_page, width=375, dark=dark)
    page.get_by_role("button", name="Setup").click()
    open_fold(page, "custom")
    take(page, COGVLM)
    words = page.get_by_role("textbox", name="Tokenizer")
    words.fill("/nowhere/at all")
    words.press("Enter")
    expect(page.locator("#plan")).to_contain_text("/nowhere/at all")
    expect(words).to_be_visible()
    expect(words).to_have_value("/nowhere/at all")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.evaluate(probe("unnamed.js")) == []
    assert page.evaluate(probe("poor_contrast.js")) == []
    words.scroll_into_view_if_needed()
    shoot(page, f"companions-narrow-{'dark' if dark else 'light'}")
