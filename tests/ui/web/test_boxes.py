"""What an answer points at is drawn on the picture that it is about, and told in words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backends.errors import WorkerCrashed
from backends.messages import Done, ImagePart, TextDelta, Timings, Usage
from ui.i18n import Translator
from ui.web import chat_flow
from ui.web.boxes import marked_html, numbers, picture_before
from ui.web.markdown import to_html
from ui.web.transcript import live_html, past_html

EN, ZH = Translator("en"), Translator("zh")
FIRST = ImagePart(Path("/data/images/a cat.png"), "1", 400, 200)
SECOND = ImagePart(Path("/data/images/二.png"), "2", 30, 20)
CAT = "[[100,200,300,400]]"
BIRDS = "[[500,600,700,800;010,020,030,999]]"
ANSWER = f"**A cat**{CAT} and two <b>birds{BIRDS}."
DONE = Done("stop", Usage(600, 576, 3), Timings(0.4, 38.0, 1.0), (1, 2, 3))


def answered(turns: chat_flow.Conversation, answer: str, *images: ImagePart) -> chat_flow.Conversation:
    asked = chat_flow.ask(turns, chat_flow.question("Where?", images))
    return chat_flow.advance(chat_flow.advance(asked, TextDelta(answer)), DONE)


def test_boxes_are_numbered_in_the_picture_the_list_and_the_text() -> None:
    html = live_html(answered((), ANSWER, FIRST), (), EN, busy=False)
    assert 'href="/gradio_api/file=/data/images/a%20cat.png"' in html
    assert [int(number) for number in re.findall(r'data-number="(\d+)"', html)] == [1, 2, 3]
    assert 'x="10.0%" y="20.0%" width="20.0%" height="20.0%"' in html
    assert 'data-numbers="1"' in html
    assert 'data-numbers="2, 3"' in html
    assert html.count("<li>") == 3
    assert "<b>A cat</b><span>10–30 % across, 20–40 % down</span>" in html


def test_what_the_model_said_stays_as_it_said_it() -> None:
    html = live_html(answered((), ANSWER, FIRST), (), EN, busy=False)
    assert f'data-text="**A cat**{CAT} and two &lt;b&gt;birds{BIRDS}."' in html, "for the button that copies"
    shown = re.sub(r"<[^>]*>", "", to_html(ANSWER, numbers(ANSWER)))
    assert shown.strip() == f"A cat{CAT} and two &lt;b&gt;birds{BIRDS}.", "for who copies by hand"


def test_who_does_not_see_it_is_told_what_is_where() -> None:
    html = marked_html(ANSWER, FIRST, EN)
    told = re.search(r'alt="([^"]*)"', html)
    assert told is not None
    assert told[1].startswith("The picture with 3 numbered boxes. 1. A cat: 10–30 % across, 20–40 % down; 2.")
    assert "birds: 1–3 % across, 2–100 % down" in told[1]
    assert '<svg aria-hidden="true">' in html
    assert "横向 10–30%，纵向 20–40%" in marked_html(ANSWER, FIRST, ZH)


@pytest.mark.parametrize(
    ("box", "above"),
    [("[[400,400,440,440]]", True), ("[[400,020,440,060]]", False), ("[[100,200,300,400]]", False)],
    ids=["small", "small and at the top", "large"],
)
def test_a_number_does_not_cover_a_small_box(box: str, above: bool) -> None:
    assert ("translate(0 -21)" in marked_html(box, FIRST, EN)) is above


def test_a_box_without_words_has_its_number() -> None:
    html = marked_html(CAT, FIRST, EN)
    assert "Without a name" in html
    assert "未命名" in marked_html(CAT, FIRST, ZH)


def test_words_of_the_model_stay_words() -> None:
    html = marked_html(f'<img src=x onerror="x">"{CAT}', FIRST, EN)
    assert "<img src=x" not in html
    assert 'onerror="x"' not in html


@pytest.mark.parametrize(
    ("answer", "images"),
    [(ANSWER, ()), ("[[1,2,3,4]] and [[100, 200, 300, 400]]", (FIRST,)), ("A cat.", (FIRST,))],
    ids=["no picture", "other lists of numbers", "no boxes"],
)
def test_without_a_picture_or_boxes_nothing_is_drawn(answer: str, images: tuple[ImagePart, ...]) -> None:
    html = live_html(answered((), answer, *images), (), EN, busy=False)
    assert "sn-marked" not in html
    assert "data-numbers" not in html


def test_only_a_whole_answer_is_drawn() -> None:
    asked = chat_flow.ask((), chat_flow.question("Where?", (FIRST,)))
    coming = chat_flow.advance(asked, TextDelta(ANSWER))
    assert "sn-marked" not in live_html(coming, (), EN, busy=True)
    broken = chat_flow.fail(coming, WorkerCrashed(stage="answering", detail="It ended."))
    assert "sn-marked" not in live_html(broken, (), EN, busy=False)


def test_each_answer_is_about_the_picture_that_came_last_before_it() -> None:
    turns = answered((), ANSWER)
    turns = answered(turns, ANSWER, FIRST)
    turns = answered(turns, ANSWER)
    turns = answered(turns, ANSWER, SECOND)
    turns = answered(turns, "Yes.")
    assert [picture_before(turns, index) for index in range(5)] == [None, FIRST, FIRST, SECOND, SECOND]
    past = past_html(turns, EN, busy=False)
    drawn = re.findall(r'sn-canvas" href="[^"]*/([^"/]+)"', past)
    assert drawn == ["a%20cat.png", "a%20cat.png", "%E4%BA%8C.png"]


@pytest.mark.parametrize(
    ("size", "shown"),
    [((400, 200), (560, 280)), ((2000, 1000), (560, 280)), ((30, 20), (120, 80)), ((100, 2000), (20, 400))],
)
def test_the_picture_has_a_size_before_it_comes(size: tuple[int, int], shown: tuple[int, int]) -> None:
    html = marked_html(CAT, ImagePart(Path("/p.png"), "1", *size), EN)
    assert f'width="{shown[0]}" height="{shown[1]}"' in html


def test_code_keeps_its_numbers_and_the_next_place_its_own() -> None:
    answer = f"`x = {CAT}` and a cat[[111,200,300,400]]"
    html = to_html(answer, numbers(answer))
    assert f"<code>x = {CAT}</code>" in html
    assert 'data-numbers="2">[[111,200,300,400]]' in html
