"""What `ask` says on stderr while a model loads and nobody watches a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from backends.messages import Progress
from tests.support.plans import make_plan
from ui.commands.ask import load
from ui.i18n import Translator

CONVERTS = (("comparing", 0), ("comparing", 3), ("converting", 1), ("converting", 9), ("read", 5))


class Loading:
    """A service of which only the steps of a load matter: a real one tells of those that take a while."""

    def __init__(self, *steps: tuple[str, int]) -> None:
        self.steps = steps

    def load(self, _: object) -> Iterator[Progress]:
        return (Progress(stage, done, 10) for stage, done in self.steps)

    def state(self) -> Any:
        return SimpleNamespace(report="loaded", left_s=None, lasted_s=None)


@pytest.mark.parametrize(
    ("language", "steps", "said"),
    [
        ("en", CONVERTS, ["comparing with transformers", "converting"]),
        ("zh", CONVERTS, ["正在与 transformers 比较", "正在转换"]),
        ("en", (("read", 1), ("read", 9)), []),
    ],
    ids=["once", "in Chinese", "a load of every day"],
)
def test_what_is_done_only_once_is_named_once(
    capsys: pytest.CaptureFixture[str], language: str, steps: tuple[tuple[str, int], ...], said: list[str]
) -> None:
    service: Any = Loading(*steps)
    assert load(service, make_plan("model"), Translator(language))[0] == "loaded"
    assert capsys.readouterr().err.splitlines() == said
