"""Every visible sentence exists in every language, with the same figures in it."""

from __future__ import annotations

import re
import string
from typing import get_args, get_type_hints

import pytest

from backends.errors import OutOfRam
from backends.messages import Progress
from backends.presets import Preset
from backends.text import Text
from tests.support.error_classes import all_errors
from tests.support.sentences import sentences, used_keys
from ui.i18n import LANGUAGES, Translator, catalog, terminal_language

SENTENCES = sentences()


def _figures(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def test_the_source_was_really_read() -> None:
    assert len(SENTENCES) > 200
    assert "error.worker_crashed.what" in SENTENCES
    assert "reason.no_gpu" in SENTENCES


def test_every_sentence_of_the_backends_is_translated() -> None:
    assert sorted(set(SENTENCES) - set(catalog("zh"))) == []


def test_every_word_of_the_page_is_in_both_catalogs() -> None:
    own = set(catalog("en"))
    assert sorted(own - set(catalog("zh"))) == []
    assert {key: file for key, file in used_keys().items() if key not in own} == {}


@pytest.mark.parametrize(
    "keys",
    [
        [f"preset.{preset}" for preset in Preset],
        [f"preset.{preset}.info" for preset in Preset],
        [f"stage.{stage}" for stage in get_args(get_type_hints(Progress)["stage"])],
        [f"status.{status}" for status in ("empty", "loading", "moving", "ready", "crashed")],
        [f"setup.{word}" for word in ("load", "swap", "loaded", "apply", "move")],
        [f"verdict.{verdict}" for verdict in ("fits", "slow", "no")],
        [f"action.{kind.action}" for kind in all_errors() if kind.action is not None],
    ],
    ids=["presets", "what presets aim for", "stages", "states", "the button", "verdicts", "of errors"],
)
def test_words_that_are_put_together_exist(keys: list[str]) -> None:
    assert [key for key in keys if key not in catalog("en")] == []


def test_translations_have_the_figures_of_their_sentences() -> None:
    english = catalog("en") | SENTENCES
    differ = {
        code: (text, english[code])
        for code, text in catalog("zh").items()
        if code in english and _figures(text) != _figures(english[code])
    }
    assert differ == {}


def test_no_translation_is_left_over() -> None:
    assert sorted(set(catalog("zh")) - set(catalog("en")) - set(SENTENCES)) == []


def test_chinese_is_chinese() -> None:
    """A line without a Chinese character is a name or a bare figure, nothing forgotten."""
    names = r"\{[^}]*\}|GPU|CPU|PyTorch|Python|Top-p"
    bare = {
        key: text
        for key, text in catalog("zh").items()
        if not re.search(r"[\u4e00-\u9fff]", text) and re.search(r"[A-Za-z]{2}", re.sub(names, "", text))
    }
    assert bare == {}


def test_a_sentence_within_a_sentence_is_translated_first() -> None:
    error = OutOfRam(stage=Text("worker.stage.loading", "loading"), needed_bytes=3 * 2**30, free_bytes=2**30)
    assert Translator("en").text(error.what_text) == "The machine ran out of memory while loading."
    assert Translator("zh").text(error.what_text) == "在加载模型时内存不足。"
    assert Translator("zh").text(error.why_text) == "需要 3.0 GB，只剩 1.0 GB。"


def test_a_sentence_that_no_catalog_knows_is_said_in_english() -> None:
    unknown = Text.of("no.such.code", "{count:count} things", count=12_345)
    assert [Translator(language).text(unknown) for language in LANGUAGES] == ["12,345 things"] * 2


def test_an_unknown_key_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        Translator("en")("no.such.key")


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({}, "en"),
        ({"SNUG_LANG": "zh_CN.UTF-8"}, "zh"),
        ({"SNUG_LANG": "fr"}, "en"),
        ({"LANG": "zh"}, "en"),
    ],
)
def test_the_terminal_speaks(environ: dict[str, str], language: str) -> None:
    assert terminal_language(environ) == language


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (0.041, "41 ms", "41 毫秒"),
        (0.41, "0.4 s", "0.4 秒"),
        (42, "42 s", "42 秒"),
        (200, "3 min", "3 分钟"),
        (8000, "2.2 h", "2.2 小时"),
    ],
)
def test_durations_carry_the_unit_of_the_language(seconds: float, english: str, chinese: str) -> None:
    assert Translator("en")("unit.about_seconds", seconds=seconds) == english
    assert Translator("zh")("unit.about_seconds", seconds=seconds) == chinese
