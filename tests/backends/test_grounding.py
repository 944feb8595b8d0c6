"""Boxes in answers, as CogVLM writes them; everything else is text."""

from __future__ import annotations

import pytest

from backends.grounding import Box, find

A = "[[100,200,300,400]]"


def boxes(answer: str) -> list[Box]:
    return [box for mark in find(answer) for box in mark.boxes]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (A, [Box("", 0.1, 0.2, 0.3, 0.4)]),
        ("A cat[[000,000,999,999]]", [Box("A cat", 0.0, 0.0, 0.999, 0.999)]),
        ("A cat [[012,034,056,078]].", [Box("A cat", 0.012, 0.034, 0.056, 0.078)]),
        (
            "Two dogs [[100,200,300,400;500,600,700,800]] play.",
            [Box("Two dogs", 0.1, 0.2, 0.3, 0.4), Box("Two dogs", 0.5, 0.6, 0.7, 0.8)],
        ),
        (
            f"A cat{A} and a dog[[500,600,700,800]]",
            [Box("A cat", 0.1, 0.2, 0.3, 0.4), Box("a dog", 0.5, 0.6, 0.7, 0.8)],
        ),
        (f"一只猫{A}和一条狗{A}", [Box("一只猫", 0.1, 0.2, 0.3, 0.4), Box("一条狗", 0.1, 0.2, 0.3, 0.4)]),
    ],
    ids=["nothing else", "whole picture", "small numbers", "two of a kind", "two kinds", "Chinese"],
)
def test_boxes_are_fractions_in_the_answers_order(answer: str, found: list[Box]) -> None:
    assert boxes(answer) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[[1,2,3,4]]",
        "[[100, 200, 300, 400]]",
        "[[0100,200,300,400]]",
        "[[1000,200,300,400]]",
        "[[100,200,300]]",
        "[[100,200,300,400,500]]",
        "[[100,200,300,400;]]",
        "[[100,200,300,400],[500,600,700,800]]",
        "[100,200,300,400]",
        "[[[100,200,300,400]]]",
        "[[-10,200,300,400]]",
        "[[0.1,0.2,0.3,0.4]]",
        "[[1e3,200,300,400]]",
        "[[١٠٠,200,300,400]]",
        "[[300,200,100,400]]",
        "[[100,400,300,200]]",
        "[[100,200,100,400]]",
        "[[100,200,300,400;300,200,100,400]]",
        "[[100,200,300,400]",
        "x = [[100,200,300,400",
        "[" * 10_000 + "]" * 10_000,
    ],
)
def test_whatever_is_not_written_just_so_is_text(text: str) -> None:
    assert find(f"See {text} there.") == ()


@pytest.mark.parametrize(
    ("before", "label"),
    [
        ("There is a lamp. The red car ", "The red car"),
        ("Look: **the red car** ", "the red car"),
        ("- the red car", "the red car"),
        ("1. the red car", "the red car"),
        ("a lamp, and the red car", "the red car"),
        ("the oranges", "the oranges"),
        ("a ball of 3.5 cm", "a ball of 3.5 cm"),
        ("左边有灯，红色的车", "红色的车"),
        ("first line\nsecond line ", "second line"),
        ("(the red car) ", "the red car"),
        ("the car: ", "the car"),
        ("word " * 30, "… " + "word " * 11 + "word"),
        ("x" * 100, "… " + "x" * 60),
    ],
)
def test_the_label_is_the_phrase_before(before: str, label: str) -> None:
    assert boxes(before + A)[0].label == label


def test_a_pair_of_brackets_that_is_no_box_still_ends_the_phrase() -> None:
    assert boxes(f"a lamp[[300,200,100,400]] a car{A}")[0].label == "a car"


def test_a_mark_is_where_its_brackets_are() -> None:
    answer = f"a car {A} drives"
    (mark,) = find(answer)
    assert answer[mark.start : mark.end] == A
