"""A device map as text: what is written for a plan's map, and what a person's lines mean."""

from __future__ import annotations

import json

import pytest

from backends.errors import DeviceMapInvalid
from ui.device_map import from_text, to_json, to_text

SPLIT = (
    ("model.vision_tower", "cuda:0"),
    *((f"model.layers.{index}", "cuda:0" if index < 5 else "cpu") for index in range(9)),
    ("lm_head", "cpu"),
)


def test_a_plans_map_in_four_lines() -> None:
    assert to_text(SPLIT).splitlines() == [
        "model.vision_tower = cuda:0",
        "model.layers.0-4 = cuda:0",
        "model.layers.5-8 = cpu",
        "lm_head = cpu",
    ]


@pytest.mark.parametrize(
    "placed",
    [
        SPLIT,
        (("", "cpu"),),
        (("layers.0", "cpu"), ("layers.2", "cpu"), ("other.3", "cpu")),
        (("0", "cuda:1"), ("1", "cuda:1")),
        (("a.0.b", "cpu"), ("a.1.b", "cpu")),
    ],
    ids=["a split model", "everything", "gaps", "bare numbers", "numbers in the middle"],
)
def test_what_is_written_is_read_again(placed: tuple[tuple[str, str], ...]) -> None:
    assert from_text(to_text(placed)) == placed
    assert tuple(json.loads(to_json(placed)).items()) == placed


@pytest.mark.parametrize(
    ("text", "placed"),
    [
        ("model.a = cuda:0", [("model.a", "cuda:0")]),
        ("model.a: 0", [("model.a", "cuda:0")]),
        ("'a.b': 'cuda:1',", [("a.b", "cuda:1")]),
        ('"a.b" : 2', [("a.b", "cuda:2")]),
        ("* -> cpu", [("", "cpu")]),
        ("model.layers.* disk", [("model.layers", "disk")]),
        ("a = cuda", [("a", "cuda:0")]),
        ("layers.0-2 = 1", [("layers.0", "cuda:1"), ("layers.1", "cuda:1"), ("layers.2", "cuda:1")]),
        ("\n# the tower\na = cpu  # slow\n\n", [("a", "cpu")]),
        ('{"a": 0, "b": "disk"}', [("a", "cuda:0"), ("b", "disk")]),
        ('{"a": 0, "a": "cpu"}', [("a", "cuda:0"), ("a", "cpu")]),
        ("a = nowhere", [("a", "nowhere")]),
    ],
)
def test_how_a_line_may_be_written(text: str, placed: list[tuple[str, str]]) -> None:
    assert from_text(text) == tuple(placed)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "places nothing"),
        ("# only words", "places nothing"),
        ("{}", "places nothing"),
        ('{"a": {"b": 1}}', "places nothing"),
        ("a = cpu\nmodel.layers", "Line 2 places nothing: model.layers"),
        ("a =", "Line 1"),
        ("layers.9-1 = cpu", "counts from 9 to 1"),
        ("layers.0-999999 = cpu", "counts from 0"),
        ('{"a": 0,\n"b"}', "line 2 is not"),
        ("{" * 100_000, "line 1 is not"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_no_map(text: str, says: str) -> None:
    with pytest.raises(DeviceMapInvalid, match=says):
        from_text(text)
