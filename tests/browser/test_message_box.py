"""The message box belongs to the person: what is written there after a question was sent stays there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import APIResponse, Page, Route, expect

from tests.browser.conftest import OpenPage, Served
from tests.browser.steps import add_pictures, ask, message_box, turns, wait_for_answer, wait_until_ready

SENT = "What is it?"


def send(page: Page) -> Callable[[], None]:
    """Ask; the server takes the question, and the page hears of it when the result is called."""
    with page.expect_response(lambda response: SENT in (response.request.post_data or "")):
        message_box(page).fill(SENT)  # the page tells of every change of the box
    asked: list[Route] = []
    held: list[tuple[Route, APIResponse]] = []

    def hold(route: Route) -> None:
        if asked or SENT not in (route.request.post_data or ""):
            route.continue_()
        else:
            asked.append(route)
            held.append((route, route.fetch()))

    def let_go() -> None:
        while not held:
            page.evaluate("new Promise(requestAnimationFrame)")
        route, response = held[0]
        route.fulfill(response=response)

    page.route("**/gradio_api/**", hold)
    with page.expect_request(lambda request: SENT in (request.post_data or "")):
        message_box(page).press("Enter")
    return let_go


@pytest.mark.parametrize(
    ("written", "left"),
    [
        (" And how", " And how"),
        ("\nAnd how", "\nAnd how"),
        ("", ""),
    ],
    ids=["the line goes on", "another line", "nothing more"],
)
def test_what_is_written_before_the_server_answers_stays(
    written: str, left: str, fake_page: Served, open_page: OpenPage
) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    let_go = send(page)
    for line in written.splitlines(keepends=True):
        page.keyboard.type(line.rstrip("\n"))
        if line.endswith("\n"):
            page.keyboard.press("Shift+Enter")
    expect(message_box(page)).to_have_value(SENT + written)

    let_go()

    expect(wait_for_answer(page, 1)).to_contain_text(f"You said: {SENT}")
    expect(message_box(page)).to_have_value(left)
    if left:
        message_box(page).press("Enter")
        wait_for_answer(page, 2)
        expect(message_box(page)).to_have_value("")


def test_a_new_question_in_its_place_stays_whole(fake_page: Served, open_page: OpenPage) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    let_go = send(page)
    message_box(page).fill("Something else")

    let_go()

    wait_for_answer(page, 1)
    expect(message_box(page)).to_have_value("Something else")


def test_a_picture_that_is_added_before_the_server_answers_stays(
    fake_page: Served, open_page: OpenPage, picture: Path, tmp_path: Path
) -> None:
    later = tmp_path / "later.png"
    later.write_bytes(picture.read_bytes() + b"\0")
    page = open_page(fake_page)
    wait_until_ready(page)
    add_pictures(page, picture)
    let_go = send(page)
    add_pictures(page, later)

    let_go()

    expect(wait_for_answer(page, 1)).to_contain_text("I see 1 picture")
    expect(page.locator("#message img")).to_have_count(1)
    expect(message_box(page)).to_have_value("")
    ask(page, "And this one?")
    wait_for_answer(page, 2)
    expect(page.locator("#message img")).to_have_count(0)
    expect(turns(page)).to_have_count(2)
