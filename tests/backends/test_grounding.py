"""Boxes in answers are found where they are whole, and nothing else is taken for one."""

from __future__ import annotations

import pytest

from backends.grounding import Box, grounded


@pytest.mark.parametrize(
    ("text", "phrase", "boxes"),
    [
        ("[[100,200,300,400]]", "", (Box(0.1, 0.2, 0.3, 0.4),)),
        ("A boat [[000,010,999,500]] on the sea.", "A boat", (Box(0.0, 0.01, 0.999, 0.5),)),
        (
            "Here: two birds [[001,002,003,004;500,500,600,600]].",
            "two birds",
            (Box(0.001, 0.002, 0.003, 0.004), Box(0.5, 0.5, 0.6, 0.6)),
        ),
        ("一只船 [[ 100, 200, 300, 400 ]]", "一只船", (Box(0.1, 0.2, 0.3, 0.4),)),
        ("x [[300,400,100,200;100,200,300,400]]", "x", (Box(0.1, 0.2, 0.3, 0.4),)),
    ],
)
def test_a_box_with_its_words(text: str, phrase: str, boxes: tuple[Box, ...]) -> None:
    (found,) = grounded(text)
    assert (found.phrase, found.boxes) == (phrase, boxes)
    assert text[found.start : found.end].startswith("[[")
    assert text[found.start : found.end].endswith("]]")


def test_several_things_in_one_answer() -> None:
    found = grounded("A man [[100,100,200,200]] and a dog [[300,300,400,400]]. A tree [[500,500,600,600]]")
    assert [one.phrase for one in found] == ["A man", "and a dog", "A tree"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no box",
        "[[100,200,300]]",
        "[[100,200,300,400,500]]",
        "[100,200,300,400]",
        "[[100,200,300,400]",
        "[[1,2,3,4]]",
        "[[1000,200,300,400]]",
        "[[-10,200,300,400]]",
        "[[a,b,c,d]]",
        "[[100,200,300,400;]]",
        "[[300,400,100,200]]",
        "[[100,200,100,400]]",
    ],
)
def test_what_is_no_box_is_left_out(text: str) -> None:
    assert grounded(text) == ()
