"""How far a load is, in words."""

from __future__ import annotations

import pytest

from backends.messages import Progress
from ui.commands.ask import progress_line
from ui.i18n import Translator
from ui.loading import preparing_text, progress_text

SAY, ZH = Translator("en"), Translator("zh")
GIB = 2**30


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (None, "starting"),
        (Progress("read", 512 * 2**20, 2 * GIB), "reading 512 MB of 2.0 GB"),
        (Progress("converting", GIB, 2 * GIB), "converting 1.0 GB of 2.0 GB"),
        (Progress("comparing", 1, 3), "comparing with transformers 1 / 3"),
        (Progress("prefill", 12, 600), "reading the question 12 / 600"),
        (Progress("encode", 0, 0), "looking at the picture"),
    ],
)
def test_progress_in_words(progress: Progress | None, said: str) -> None:
    assert progress_text(progress, SAY) == said


@pytest.mark.parametrize(
    ("progress", "left", "said"),
    [
        (Progress("converting", 34, 100), 12.3, "Converting once for llama.cpp, 34 % - about 12 s left"),
        (Progress("converting", 999, 1000), 0.2, "Converting once for llama.cpp, 99 % - about 0.2 s left"),
        (Progress("converting", 34, 100), None, "Converting once for llama.cpp, 34 %"),
        (Progress("converting", 0, 0), None, "Converting once for llama.cpp, 0 %"),
        (Progress("comparing", 0, 0), None, "Comparing with transformers what llama.cpp sees, once"),
        (Progress("comparing", 1, 3), None, "Comparing with transformers what llama.cpp sees, once (1 / 3)"),
        (Progress("read", 1, 3), 5.0, ""),
    ],
)
def test_what_is_done_only_once(progress: Progress, left: float | None, said: str) -> None:
    assert preparing_text(progress, left, SAY) == said


@pytest.mark.parametrize(
    ("progress", "left", "lasted", "said"),
    [
        (Progress("comparing", 2, 4), 6.0, 12.0, " (2 / 4) - about 6.0 s left"),
        (Progress("comparing", 1, 4), None, 12.0, " (1 / 4) - 12 s so far"),
        (Progress("comparing", 0, 0), None, 2.0, ""),
    ],
)
def test_comparing_says_how_long_it_still_takes_or_took(
    progress: Progress, left: float | None, lasted: float, said: str
) -> None:
    begun = "Comparing with transformers what llama.cpp sees, once"
    assert preparing_text(progress, left, SAY, lasted_s=lasted) == begun + said


def test_it_is_said_in_chinese() -> None:
    comparing = preparing_text(Progress("comparing", 1, 4), None, ZH, lasted_s=12.0)
    assert comparing.endswith("（仅一次） (1 / 4)，已用 12 秒")
    said = preparing_text(Progress("converting", 34, 100), 12.3, ZH)
    assert said == "正在为 llama.cpp 转换（仅一次），34%，约剩 12 秒"


def test_a_terminal_says_the_same() -> None:
    assert progress_line(Progress("converting", 34, 100), 12.3, SAY).endswith("about 12 s left")
    assert progress_line(Progress("read", 2**30, 2**31), 3.0, SAY) == "reading 1.0 GB of 2.0 GB"
