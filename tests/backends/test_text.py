"""Sentences as values and the figures in them."""

from __future__ import annotations

import pickle

import pytest

from backends.errors import SnugError
from backends.text import Text, human_bytes, human_rate, human_seconds, shown_name
from tests.support.error_classes import all_errors


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (1024**2, "1.0 MB"),
        (int(9.96 * 1024**3), "10.0 GB"),
        (int(99.6 * 1024**3), "100 GB"),
        (24 * 1024**3, "24.0 GB"),
        (5 * 1024**5, "5120 TB"),
        (-1536, "-1.5 KB"),
    ],
)
def test_human_bytes(count: int, shown: str) -> None:
    assert human_bytes(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0201, "20 ms"),
        (0.4, "0.4 s"),
        (9.94, "9.9 s"),
        (12.3, "12 s"),
        (99.4, "99 s"),
        (150, "2 min"),
        (119.4 * 60, "119 min"),
        (119.6 * 60, "2.0 h"),
        (7.5 * 3600, "7.5 h"),
        (9.96 * 3600, "10 h"),
        (40 * 3600, "40 h"),
    ],
)
def test_human_seconds(seconds: float, shown: str) -> None:
    assert human_seconds(seconds) == shown


@pytest.mark.parametrize(
    ("per_second", "shown"),
    [
        (38.04, "38.0"),
        (5.0, "5.0"),
        (0.96, "1.0"),
        (0.3, "0.3"),
        (0.04, "0.04"),
        (0.0042, "0.004"),
        (0, "0.0"),
    ],
)
def test_human_rate(per_second: float, shown: str) -> None:
    """What crawls is not said to stand still."""
    assert human_rate(per_second) == shown


def test_a_sentence_can_hold_a_sentence() -> None:
    inner = Text.of("inner", "{free_bytes:bytes} are free", free_bytes=2048)
    assert str(Text.of("outer", "Too little: {detail}.", detail=inner)) == "Too little: 2.0 KB are free."


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 3090"),
        ("显卡\u3000模型 é", "显卡\u3000模型 é"),
        ("\x1b[31mred", "?[31mred"),
        ("one\r\ntwo\x7f\x9b", "one??two??"),
        ("txt.\u202eexe", "txt.?exe"),
        ("x" * 5000, "x" * 80 + "..."),
    ],
    ids=["a card", "Chinese", "colours", "lines", "writing turned round", "endless"],
)
def test_names_from_files_are_shown_short_and_plain(name: str, shown: str) -> None:
    assert shown_name(name) == shown


def test_a_figure_of_a_sentence_can_not_steer_the_terminal() -> None:
    assert str(Text.of("held", "{who} holds it", who="\x1b]0;evil\x07")) == "?]0;evil? holds it"


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_every_error_is_complete(kind: type[SnugError]) -> None:
    for template in (kind.what, kind.why, kind.remedy):
        assert template.rstrip()[-1] in ".}", "a sentence, or a value that is one"
    assert kind.exit_code in {2, 3, 4, 130}
    assert kind.code


def test_codes_name_one_error_each() -> None:
    codes = [kind.code for kind in all_errors()]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_errors_cross_a_process_border(kind: type[SnugError]) -> None:
    values = {"detail": Text.of("a", "b {c}", c=1), "path": "ä b", "needed_bytes": 5}
    copy = pickle.loads(pickle.dumps(kind(**values)))
    assert type(copy) is kind
    assert copy.values == values
