"""Settings of the side bar, and the examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backends.errors import (
    SettingInvalid,
)
from backends.messages import SamplingParams
from tests.support.tab import Tab
from ui.web.examples import read_examples
from ui.web.panels.generation import sampling
from ui.web.panels.setup import model_choices, model_named

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("written", "model"),
    [(None, "starter"), ("  ", "starter"), ('"C:\\模型\\llava 1.5"', "C:\\模型\\llava 1.5"), ("m", "m")],
    ids=["nothing chosen", "blanks", "a quoted path", "a name"],
)
def test_the_model_that_is_meant(written: str | None, model: str) -> None:
    assert model_named(written) == model


@pytest.mark.parametrize("seed", ["many", "-1", "1.5", "9" * 20, "9" * 5000], ids=lambda seed: seed[:6])
def test_a_seed_that_is_none_is_named(seed: str) -> None:
    with pytest.raises(SettingInvalid):
        sampling(0.2, 1, 64, seed)


def test_emptied_sliders_mean_their_defaults() -> None:
    nothing: Any = None
    assert sampling(nothing, nothing, nothing, "") == SamplingParams()


def test_a_model_given_by_its_folder_stands_in_the_list(tab: Tab) -> None:
    assert ("my model", "/somewhere/my model") in model_choices(tab.service.models(), "/somewhere/my model")


NO_SUCH_PICTURE = '[{"file": "no.png", "label": {"en": "a", "zh": "b"}, "question": "?"}]'


@pytest.mark.parametrize("content", [None, "{", "[]", '[{"file": "x.png"}]', NO_SUCH_PICTURE])
def test_examples_that_cannot_be_read_are_left_out(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "examples.json").write_text(content, encoding="utf-8")
    assert read_examples(tmp_path) == ()


def test_the_bundled_examples_are_three() -> None:
    assert len(read_examples(ROOT / "assets" / "examples")) == 3
