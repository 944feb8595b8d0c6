"""What a person does on the page, in their words."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Locator, Page, expect


def wait_until_ready(page: Page) -> None:
    expect(page.locator("#status")).to_contain_text("Ready")


def message_box(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Your question")


def add_pictures(page: Page, *pictures: Path) -> None:
    before = page.locator("#message img").count()
    # Through the file dialog, as a person does: a hidden input tells nobody when it gets the same file again.
    with page.expect_file_chooser() as dialog:
        page.get_by_test_id("upload-button").click()
    dialog.value.set_files([str(picture) for picture in pictures])
    expect(page.locator("#message img")).to_have_count(before + len(pictures))


def ask(page: Page, text: str, *pictures: Path) -> None:
    if pictures:
        add_pictures(page, *pictures)
    message_box(page).fill(text)
    message_box(page).press("Enter")


def turns(page: Page) -> Locator:
    return page.locator(".sn-turn")


def last_answer(page: Page) -> Locator:
    return turns(page).last.locator(".sn-answer")


def wait_for_answer(page: Page, count: int) -> Locator:
    """Wait until the `count`th question is answered, with its figures."""
    expect(turns(page)).to_have_count(count)
    expect(turns(page).last).to_have_attribute("aria-busy", "false")
    expect(last_answer(page).locator(".sn-stats")).to_contain_text("to first word")
    return last_answer(page)


def answer_again(page: Page) -> None:
    """Press the button and see the page take it up: until then the old answer stands there."""
    page.evaluate("document.querySelector('#live .sn-turn').dataset.old = 'yes'")
    page.get_by_role("button", name="Answer again").click()
    expect(page.locator("[data-old]")).to_have_count(0)


def begin_edit(page: Page, button: Locator, text: str) -> Locator:
    """Open a question for editing and write `text`; gives its box."""
    button.click()
    box = page.get_by_role("textbox", name="Edit the question")
    box.fill(text)
    return box


def choose(page: Page, box: str, option: str) -> None:
    """Take a line of a dropdown."""
    page.get_by_role("combobox", name=box).click()
    page.get_by_role("option", name=option).click()


def open_fold(page: Page, fold: str) -> None:
    """Open one of the side bar's folds, by its id."""
    page.locator(f"#{fold} > button").click()
    expect(page.locator(f"#{fold} > button")).to_have_class(re.compile(r"\bopen\b"))
