"""Checkpoints as their authors publish them, loaded for real from the page by their folders."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conftest import ROOT, OpenPage, Served
from tests.browser.steps import ask, wait_for_answer, wait_until_ready
from tests.browser.test_converting import name_model

FIXTURES = ROOT / "tests" / "fixtures"
COGVLM = FIXTURES / "cogvlm-chat" / "checkpoint" / "cogvlm-chat-hf-tiny"
LLAVA = FIXTURES / "llava-v1.5-full" / "checkpoint" / "llava-v1.5-7b-tiny"
CHATGLM = FIXTURES / "chatglm3-6b" / "checkpoint" / "chatglm3-6b-tiny"


def load(page: Page, folder: Path, template: str) -> None:
    name_model(page, folder)
    expect(page.locator("#plan .sn-made-of")).to_contain_text(f"{template} (found by Snug)")
    expect(page.locator("#load")).to_be_enabled()
    page.locator("#load").click()
    expect(page.locator("#load")).to_have_text("Loaded")
    wait_until_ready(page)
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".sn-welcome")).to_be_visible()


def test_they_are_found_out_loaded_and_asked(
    starter_page: Served, open_page: OpenPage, picture: Path
) -> None:
    page = open_page(starter_page)
    wait_until_ready(page)
    for folder, template in ((COGVLM, "chat"), (LLAVA, "v1")):
        load(page, folder, template)
        ask(page, "What is it?", picture)
        expect(wait_for_answer(page, 1).locator(".sn-stats")).to_contain_text("image tokens")

    # This one reads only.
    load(page, CHATGLM, "chatglm3")
    expect(page.locator("#reading")).to_have_text("The model reads text only.")
    expect(page.locator("#camera-open")).to_be_hidden()
    ask(page, "你好")
    expect(wait_for_answer(page, 1).locator(".sn-stats")).not_to_contain_text("image tokens")
