"""Languages, light and dark, narrow screens, the keyboard, and what a screen reader is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import OpenPage, Served
from tests.browser.steps import add_pictures, ask, message_box, turns, wait_for_answer, wait_until_ready

Shoot = Callable[[Page, str], None]


def probe(name: str) -> str:
    """A function that looks at the page from inside."""
    return Path(__file__).with_name("probes").joinpath(name).read_text(encoding="utf-8")


def test_chinese_changes_every_visible_word_and_is_remembered(
    fake_page: Served, open_page: OpenPage, picture: Path
) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    ask(page, "hello", picture)
    wait_for_answer(page, 1)
    page.get_by_text("中", exact=True).click()
    expect(page.locator("#hardware")).to_contain_text("本机")
    expect(page.locator("#status")).to_contain_text("就绪")
    expect(page.locator("html")).to_have_attribute("lang", "zh")
    english = page.evaluate(probe("english_words.js"))
    assert [line for line in english if not line.startswith(("Intel", "AMD", "Xeon", "Starter"))] == []
    # What only a screen reader says is in Chinese, too, also of a button that has just come.
    add_pictures(page, picture)
    named = page.locator("#message [aria-label]").evaluate_all("all => all.map((one) => one.ariaLabel)")
    assert {"添加图片", "移除图片", "发送", "你的问题"} <= set(named)
    assert [label for label in named if label.isascii()] == []
    page.reload()
    expect(page.locator("#hardware")).to_contain_text("本机")
    expect(turns(page)).to_have_count(1)
    page.get_by_text("EN", exact=True).click()
    expect(page.locator("#hardware")).to_contain_text("Your machine")


def test_the_address_can_choose_the_language(fake_page: Served, open_page: OpenPage) -> None:
    page = open_page(fake_page, "/?lang=zh")
    expect(page.locator(".sn-welcome")).to_contain_text("看图提问")


def test_a_chinese_reader_never_sees_the_page_in_english(fake_page: Served, chromium: Browser) -> None:
    with chromium.new_context(locale="zh-CN") as context:
        page = context.new_page()
        page.add_init_script(probe("titles_seen.js"))
        page.goto(fake_page.url)
        expect(page.locator(".sn-welcome h2")).to_be_visible()
        expect(page.locator(".sn-welcome h2")).to_have_text("看图提问")
        assert page.evaluate("window.titlesSeen") == ["看图提问"]


def test_dark_is_followed_switched_and_remembered(fake_page: Served, open_page: OpenPage) -> None:
    page = open_page(fake_page, dark=True)
    expect(page.locator("body")).to_have_class("dark")
    page.get_by_role("button", name="Light or dark").click()
    expect(page.locator("body")).not_to_have_class("dark")
    page.reload()
    expect(page.locator("#plan .sn-meter").first).to_be_visible()
    expect(page.locator("body")).not_to_have_class("dark")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_can_be_read(dark: bool, fake_page: Served, open_page: OpenPage, picture: Path) -> None:
    """WCAG AA: 4.5 to 1 between each text and what lies behind it."""
    page = open_page(fake_page, dark=dark)
    wait_until_ready(page)
    ask(page, "hello", picture)
    wait_for_answer(page, 1)
    poor = page.evaluate(probe("poor_contrast.js"))
    assert poor == []


def test_a_narrow_screen_needs_no_sideways_scrolling(
    fake_page: Served, open_page: OpenPage, picture: Path
) -> None:
    page = open_page(fake_page, width=375)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.get_by_role("button", name="Setup").click()
    expect(page.locator("#hardware")).to_be_visible()
    expect(page.locator("#plan")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.get_by_role("button", name="Setup").click()
    wait_until_ready(page)
    ask(page, "what is it? " + "averylongword" * 12, picture)
    wait_for_answer(page, 1)
    overflow = page.evaluate(
        """() => [...document.querySelectorAll("#transcript *, #composer *")]
            .filter((one) => one.checkVisibility() && one.getBoundingClientRect().right > 376)
            .map((one) => one.className)"""
    )
    assert overflow == []


def test_everything_by_keyboard(fake_page: Served, open_page: OpenPage) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    # An example is a button like any other.
    page.locator(".sn-example").first.focus()
    page.keyboard.press("Enter")
    wait_for_answer(page, 1)
    message_box(page).focus()
    page.keyboard.type("typed")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two lines")
    page.keyboard.press("Enter")
    wait_for_answer(page, 2)
    expect(page.locator(".sn-text").last).to_have_text("typed\ntwo lines")
    reached = set()
    page.locator("body").focus()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(probe("focus_ring.js")))
    for name in ("Model", "Preset", "Unload", "Your question", "Camera", "New conversation", "Light or dark"):
        assert any(one == name for one in reached), (name, sorted(reached))
    assert [one for one in reached if one.startswith("NO RING")] == []


def test_a_screen_reader_is_told(fake_page: Served, open_page: OpenPage, picture: Path) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    expect(page.get_by_role("status").first).to_contain_text("Ready")
    expect(page.get_by_role("log")).to_have_attribute("aria-live", "polite")
    ask(page, "hello", picture)
    wait_for_answer(page, 1)
    expect(page.get_by_role("img", name="RAM:", exact=False).first).to_be_visible()
    expect(page.get_by_role("img", name="Picture 1, 320 by 240 pixels")).to_be_visible()
    unnamed = page.evaluate(probe("unnamed.js"))
    assert unnamed == []


@pytest.mark.timeout(600)
def test_pictures_for_the_readme(starter_page: Served, open_page: OpenPage, shoot: Shoot) -> None:
    """The page in its three looks, with the bundled model: also what the README shows."""
    for name, query, width, dark in (
        ("light", "/?lang=en", 1280, False),
        ("dark-chinese", "/?lang=zh", 1280, True),
        ("narrow", "/?lang=en", 375, False),
    ):
        page = open_page(starter_page, query, width=width, dark=dark)
        expect(page.locator("#status")).to_contain_text("就绪" if "zh" in query else "Ready")
        page.locator(".sn-example").nth(1).click()
        expect(turns(page).last).to_have_attribute("aria-busy", "false")
        expect(page.locator(".sn-markdown").last).not_to_be_empty()
        shoot(page, name)
