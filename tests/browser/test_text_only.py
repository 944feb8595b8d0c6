"""A model that reads text only: nothing on the page speaks of pictures until one that sees comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage, Served
from tests.browser.steps import (
    add_pictures,
    ask,
    choose,
    last_answer,
    message_box,
    open_fold,
    wait_for_answer,
    wait_until_ready,
)
from tests.browser.test_looks import probe

Shoot = Callable[[Page, str], None]


def load(page: Page, model: str) -> None:
    choose(page, "Model", model)
    expect(page.locator("#load")).to_be_enabled()
    page.locator("#load").click()
    expect(page.locator("#load")).to_have_text("Loaded")
    wait_until_ready(page)


def test_pictures_go_out_of_sight_and_come_back(
    planned_page: Served, open_page: OpenPage, picture: Path, shoot: Shoot
) -> None:
    page = open_page(planned_page)
    load(page, "llava-1.5-7b")
    add_pictures(page, picture)
    expect(page.locator("#message img")).to_be_visible()
    open_fold(page, "custom")
    expect(page.get_by_role("spinbutton", name="Pictures per chat")).to_be_visible()

    load(page, "chatglm3-tiny")
    expect(page.locator("#reading")).to_contain_text("The pictures in your draft wait for one that sees")
    for hidden in ("#message img", "#message .upload-button", "#camera-open", ".sn-example", "#images"):
        expect(page.locator(hidden).first).to_be_hidden()
    expect(message_box(page)).to_have_attribute("placeholder", "Ask a question")
    expect(page.get_by_role("heading", name="Ask a question")).to_be_visible()
    expect(page.locator("#plan .sn-made-of")).to_contain_text("chatglm3 (found by Snug)")
    assert page.evaluate(probe("unnamed.js")) == []
    assert page.evaluate(probe("poor_contrast.js")) == []
    shoot(page, "text-only")
    ask(page, "what is two and two?")
    expect(wait_for_answer(page, 1)).to_contain_text("I see 0 pictures")
    expect(last_answer(page).locator(".sn-stats")).not_to_contain_text("image tokens")
    expect(message_box(page)).to_have_value("")

    load(page, "llava-1.5-7b")
    expect(page.locator("#reading")).to_be_hidden()
    expect(page.locator("#message img")).to_be_visible()
    expect(message_box(page)).to_have_attribute(
        "placeholder", "Drop, paste or add a picture, and ask about it"
    )
    ask(page, "and now?")
    expect(wait_for_answer(page, 2)).to_contain_text("I see 1 picture")


@pytest.mark.parametrize("model", ["text-6b", "chatglm3-tiny"], ids=["light", "dark"])
def test_on_a_narrow_screen_and_in_chinese(
    model: str, planned_page: Served, open_page: OpenPage, shoot: Shoot
) -> None:
    dark = model == "chatglm3-tiny"
    page = open_page(planned_page, width=375, dark=dark)
    page.get_by_role("button", name="Setup").click()
    load(page, model)
    page.get_by_role("button", name="Setup").click()
    expect(page.locator("#reading")).to_have_text("The model reads text only.")
    page.locator("#language").get_by_text("中").click()
    expect(page.locator("#reading")).to_have_text("该模型只读文字。")
    expect(page.locator("#message textarea")).to_have_attribute("placeholder", "输入问题")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    shoot(page, f"text-only-narrow-{'dark' if dark else 'light'}")
