"""Asking, stopping, correcting: the page over a real worker whose engine obeys words in the question."""

from __future__ import annotations

from pathlib import Path

import psutil
from playwright.sync_api import APIResponse, Route, expect

from tests.browser.conftest import OpenPage, Served
from tests.browser.steps import (
    add_pictures,
    answer_again,
    ask,
    begin_edit,
    last_answer,
    message_box,
    turns,
    wait_for_answer,
    wait_until_ready,
)


def test_an_answer_streams_and_escape_stops_it(fake_page: Served, open_page: OpenPage) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    ask(page, "slow long please")
    expect(last_answer(page)).to_contain_text("word3")
    # The box is free for the next question while the answer comes.
    message_box(page).fill("my next question")
    page.keyboard.press("Escape")
    expect(last_answer(page).locator(".sn-stats")).to_contain_text("stopped")
    expect(message_box(page)).to_have_value("my next question")
    message_box(page).press("Enter")
    expect(wait_for_answer(page, 2)).to_contain_text("You said: my next question")


def test_the_stop_button_stops(fake_page: Served, open_page: OpenPage) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    ask(page, "slow long please")
    expect(last_answer(page)).to_contain_text("word1")
    page.locator("#message .stop-button").click()
    expect(last_answer(page).locator(".sn-stats")).to_contain_text("stopped")
    expect(page.locator("#message .submit-button")).to_be_visible()


def test_a_new_conversation_does_not_wait_for_the_answer(fake_page: Served, open_page: OpenPage) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    ask(page, "slow long please")
    expect(last_answer(page)).to_contain_text("word1")
    message_box(page).fill("a draft")
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".sn-welcome")).to_be_visible()
    expect(message_box(page)).to_have_value("a draft")
    message_box(page).press("Enter")
    expect(wait_for_answer(page, 1)).to_contain_text("You said: a draft")


def test_answer_again_edit_copy_and_delete(fake_page: Served, open_page: OpenPage, picture: Path) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    ask(page, "first", picture)
    expect(wait_for_answer(page, 1)).to_contain_text("I see 1 picture. You said: first")
    ask(page, "second")
    wait_for_answer(page, 2)

    answer_again(page)
    expect(wait_for_answer(page, 2)).to_contain_text("You said: second")

    begin_edit(page, page.get_by_role("button", name="Edit the question").last, "third").press("Enter")
    expect(last_answer(page)).to_contain_text("You said: third")
    wait_for_answer(page, 2)

    page.get_by_role("button", name="Copy the answer").last.click()
    assert page.evaluate("navigator.clipboard.readText()") == "I see 1 picture. You said: third"

    # Editing an earlier question begins again from there, with its picture.
    begin_edit(page, page.get_by_role("button", name="Edit the question").first, "fourth")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(last_answer(page)).to_contain_text("I see 1 picture. You said: fourth")
    wait_for_answer(page, 1)

    # Deleting the last question gives it back to the box.
    page.get_by_role("button", name="Delete this question").click()
    expect(turns(page)).to_have_count(0)
    expect(message_box(page)).to_have_value("fourth")
    expect(page.locator("#message img")).to_have_count(1)
    message_box(page).press("Enter")
    expect(wait_for_answer(page, 1)).to_contain_text("I see 1 picture. You said: fourth")


def test_leaving_an_edit_changes_nothing(fake_page: Served, open_page: OpenPage) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    ask(page, "original")
    wait_for_answer(page, 1)
    begin_edit(page, page.get_by_role("button", name="Edit the question"), "changed")
    page.keyboard.press("Escape")
    expect(page.locator(".sn-text")).to_have_text("original")


def test_an_edit_outlives_every_new_drawing(fake_page: Served, open_page: OpenPage) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    for number, text in enumerate(("first", "second"), 1):
        ask(page, text)
        wait_for_answer(page, number)
    edit = page.get_by_role("textbox", name="Edit the question")
    begin_edit(page, page.get_by_role("button", name="Edit the question").last, "rewritten")
    # The turn moves up, its buttons go, the answer streams, the buttons come back.
    ask(page, "slow long please")
    expect(last_answer(page)).to_contain_text("word3")
    expect(edit).to_have_value("rewritten")
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_disabled()
    message_box(page).press("Escape")
    expect(last_answer(page).locator(".sn-stats")).to_contain_text("stopped")
    expect(edit).to_have_value("rewritten")
    # A turn above it goes: the edit moves with its question.
    page.get_by_role("button", name="Delete this question").first.click()
    expect(turns(page)).to_have_count(2)
    expect(edit).to_have_value("rewritten")
    edit.press("Enter")
    expect(last_answer(page)).to_contain_text("You said: rewritten")
    expect(turns(page)).to_have_count(1)
    expect(edit).to_have_count(0)


def test_an_edit_that_comes_too_late_is_not_lost(fake_page: Served, open_page: OpenPage) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    for number, text in enumerate(("first", "second"), 1):
        ask(page, text)
        wait_for_answer(page, number)
    edit = begin_edit(page, page.get_by_role("button", name="Edit the question").first, "rewritten")
    message_box(page).fill("slow long please")
    # The server has taken the question, the page does not know it yet.
    held: list[tuple[Route, APIResponse]] = []

    def hold(route: Route) -> None:
        if held or "slow long" not in (route.request.post_data or ""):
            route.continue_()
        else:
            held.append((route, route.fetch()))

    page.route("**/gradio_api/**", hold)
    with page.expect_request(lambda request: "slow long" in (request.post_data or "")):
        message_box(page).press("Enter")
    while not held:
        page.evaluate("new Promise(requestAnimationFrame)")
    with page.expect_response(lambda response: "rewritten" in (response.request.post_data or "")):
        edit.press("Enter")
    route, response = held[0]
    route.fulfill(response=response)
    expect(last_answer(page)).to_contain_text("word1")
    expect(turns(page)).to_have_count(3)
    expect(edit).to_have_value("rewritten")
    page.keyboard.press("Escape")


def test_a_double_click_deletes_one_question(fake_page: Served, open_page: OpenPage) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    for number, text in enumerate(("first", "second", "third"), 1):
        ask(page, text)
        wait_for_answer(page, number)
    page.get_by_role("button", name="Delete this question").first.dblclick()
    expect(turns(page)).to_have_count(2)
    ask(page, "fourth")
    wait_for_answer(page, 3)
    expect(page.locator(".sn-text")).to_have_text(["second", "third", "fourth"])


def test_escape_right_after_the_question_stops_it(fake_page: Served, open_page: OpenPage) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    ask(page, "slow long please")
    page.keyboard.press("Escape")
    expect(last_answer(page).locator(".sn-stats")).to_contain_text("stopped")
    expect(page.locator("#message .submit-button")).to_be_visible()


def test_typing_goes_on_while_the_page_is_drawn_anew(fake_page: Served, open_page: OpenPage) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    ask(page, "original")
    wait_for_answer(page, 1)
    page.evaluate("window.drawn = document.querySelector('.sn-question').outerHTML")
    box = begin_edit(page, page.get_by_role("button", name="Edit the question"), "one ")
    # What Gradio does when a half of the conversation changes.
    page.evaluate("document.querySelector('.sn-question').outerHTML = window.drawn")
    page.keyboard.type("two")
    expect(box).to_have_value("one two")


def test_the_worker_dies_in_the_middle_of_an_answer(fake_page: Served, open_page: OpenPage) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    ask(page, "slow long please")
    expect(last_answer(page)).to_contain_text("word3")
    message_box(page).fill("a draft")
    psutil.Process(fake_page.worker_pid).kill()
    expect(page.get_by_role("alert")).to_contain_text("ended while")
    expect(last_answer(page)).to_contain_text("word3")
    page.get_by_role("button", name="Start again").click()
    wait_until_ready(page)
    expect(page.get_by_role("alert")).to_contain_text("no whole answer yet")
    expect(message_box(page)).to_have_value("a draft")
    page.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_role("alert")).to_be_hidden()


def test_running_out_of_memory_steps_down_answers_and_steps_back(
    unmeasured_page: Served, open_page: OpenPage, picture: Path
) -> None:
    page = open_page(unmeasured_page)
    wait_until_ready(page)
    ask(page, "oom-while-fp32", picture)
    card = page.get_by_role("alert")
    expect(card).to_contain_text("ran out of memory while looking at the picture")
    expect(card).to_contain_text("4.0 MB were needed and 1.0 MB were free.")
    expect(card).to_contain_text("Next step: Use llama.cpp.")
    expect(card).to_contain_text("tokens/s")
    # The next question begins while the card is there: a picture, the same as before, and words.
    add_pictures(page, picture)
    message_box(page).fill("a draft")

    # The step is taken, and the question is answered without being asked again.
    page.get_by_role("button", name="Use llama.cpp").click()
    answer = wait_for_answer(page, 1)
    expect(answer).to_contain_text("I see 1 picture. You said: oom-while-fp32")
    expect(page.get_by_alt_text("Picture 1", exact=False)).to_have_count(1)
    expect(message_box(page)).to_have_value("a draft")
    expect(page.locator("#message img")).to_have_count(1)
    expect(page.locator("#plan")).to_contain_text("llama.cpp")
    expect(page.locator("#notice")).to_contain_text("Done: Use llama.cpp")

    # Undone: the plan is what it was, and nothing of the conversation is lost.
    page.get_by_role("button", name="Undo", exact=True).click()
    expect(page.locator("#plan")).to_contain_text("fp32")
    wait_until_ready(page)
    expect(page.locator("#notice")).to_be_hidden()
    expect(turns(page)).to_have_count(1)
    expect(message_box(page)).to_have_value("a draft")
    expect(page.get_by_role("combobox", name="Preset")).to_have_value("Recommended")

    # The draft is asked with its picture, beside the one that is in the conversation.
    message_box(page).press("Enter")
    expect(wait_for_answer(page, 2)).to_contain_text("I see 2 pictures. You said: a draft")
    expect(turns(page).last.get_by_alt_text("Picture 1", exact=False)).to_have_count(1)
    expect(page.locator("#message img")).to_have_count(0)


def test_another_step_than_the_next_is_one_click_away(fake_page: Served, open_page: OpenPage) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    ask(page, "oom-while-fp32")
    expect(page.get_by_role("alert")).to_contain_text("Next step")
    page.get_by_text("Other steps").click()
    expect(page.locator(".sn-steps")).to_contain_text("nf4 instead of fp32: answers get rougher.")
    page.get_by_role("button", name="Load in 4-bit").click()
    expect(wait_for_answer(page, 1)).to_contain_text("You said: oom-while-fp32")
    expect(page.locator("#notice")).to_contain_text("Done: Load in 4-bit")
    expect(page.locator("#plan")).to_contain_text("4-bit")
    page.get_by_role("button", name="Undo", exact=True).click()
    expect(page.locator("#plan")).to_contain_text("fp32")
    wait_until_ready(page)


def test_two_tabs_share_the_model_and_keep_apart(fake_page: Served, open_page: OpenPage) -> None:
    first, second = open_page(fake_page), open_page(fake_page)
    wait_until_ready(first)
    ask(first, "slow long please")
    expect(last_answer(first)).to_contain_text("word1")
    ask(second, "quick")
    expect(last_answer(second)).to_contain_text("number 1 in line")
    first.keyboard.press("Escape")
    expect(wait_for_answer(second, 1)).to_contain_text("You said: quick")
    expect(turns(first)).to_have_count(1)
    expect(last_answer(first)).not_to_contain_text("quick")


def test_a_reload_keeps_the_conversation(fake_page: Served, open_page: OpenPage, picture: Path) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    ask(page, "remember me", picture)
    wait_for_answer(page, 1)
    page.reload()
    expect(wait_for_answer(page, 1)).to_contain_text("You said: remember me")
    page.get_by_role("button", name="New conversation").click()
    expect(turns(page)).to_have_count(0)
    expect(page.locator(".sn-welcome")).to_be_visible()


def test_a_duplicated_tab_keeps_to_itself(fake_page: Served, open_page: OpenPage) -> None:
    first = open_page(fake_page)
    wait_until_ready(first)
    ask(first, "one")
    wait_for_answer(first, 1)
    twin = first.context.new_page()
    twin.goto(fake_page.url)
    # What a browser does when it duplicates a tab: the session storage goes with it.
    name = first.evaluate("sessionStorage.getItem('snug-tab')")
    twin.evaluate(f"sessionStorage.setItem('snug-tab', '{name}')")
    twin.reload()
    expect(wait_for_answer(twin, 1)).to_contain_text("You said: one")
    ask(first, "two")
    wait_for_answer(first, 2)
    ask(twin, "another two")
    wait_for_answer(twin, 2)
    first.reload()
    expect(wait_for_answer(first, 2)).to_contain_text("You said: two")


def test_a_long_text_is_pasted_as_text(fake_page: Served, open_page: OpenPage) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    page.evaluate("navigator.clipboard.writeText('many words '.repeat(3000))")
    message_box(page).focus()
    page.keyboard.press("Control+V")
    expect(message_box(page)).to_have_value("many words " * 3000)
    message_box(page).press("Enter")
    # Too long for the model; a new conversation gives the words back.
    expect(page.get_by_role("alert")).to_contain_text("too long")
    page.get_by_role("button", name="New conversation").first.click()
    expect(turns(page)).to_have_count(0)
    expect(message_box(page)).to_have_value(("many words " * 3000).strip())


def test_several_pictures_and_no_text(fake_page: Served, open_page: OpenPage, picture: Path) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    other = picture.with_name("other.png")
    other.write_bytes(picture.read_bytes())
    add_pictures(page, picture, other)
    message_box(page).press("Enter")
    expect(wait_for_answer(page, 1)).to_contain_text("I see 2 pictures")
    expect(page.locator(".sn-pictures img")).to_have_count(2)


def test_nothing_in_an_answer_runs_or_loads(fake_page: Served, open_page: OpenPage) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    page.evaluate("window.broken = 0")
    evil = (
        "<img src=x onerror='window.broken=1'> <script>window.broken=1</script> "
        "![a](http://127.0.0.9/steal.png) [b](javascript:window.broken=1) **bold**"
    )
    ask(page, evil)
    answer = wait_for_answer(page, 1)
    expect(answer.locator("strong")).to_have_text("bold")
    expect(answer.locator("img, script")).to_have_count(0)
    expect(page.locator(".sn-question img, .sn-question script")).to_have_count(0)
    expect(answer.locator("a[href^='javascript']")).to_have_count(0)
    assert page.evaluate("window.broken") == 0


def test_a_model_that_is_not_there_is_said_in_the_plan(fake_page: Served, open_page: OpenPage) -> None:
    page = open_page(fake_page)
    wait_until_ready(page)
    chooser = page.get_by_role("combobox", name="Model")
    chooser.fill("/nowhere/我的 model")
    chooser.press("Enter")
    expect(page.locator("#plan")).to_contain_text("There is no model at /nowhere/我的 model")
    expect(page.locator("#load")).to_be_disabled()
    # The loaded model goes on answering meanwhile.
    ask(page, "still there?")
    expect(wait_for_answer(page, 1)).to_contain_text("You said: still there?")
