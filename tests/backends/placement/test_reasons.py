"""Every sentence of a plan is a value that can be translated."""

from __future__ import annotations

import inspect
import re

from backends.placement import machine_words, precision_words, reasons, shortages, why_not
from backends.text import Text
from tests.support.reason_samples import samples
from ui.i18n import Translator


def test_every_sentence_has_one_sample() -> None:
    codes = [
        code
        for module in (reasons, precision_words, machine_words, shortages, why_not)
        for code in re.findall(r'"((?:reason|why)\.\w+)"', inspect.getsource(module))
    ]

    assert sorted(reason.code for reason in samples()) == sorted(set(codes))


def test_every_sentence_can_be_rendered() -> None:
    for reason in samples():
        assert isinstance(reason, Text)
        assert reason.code.startswith(("reason.", "why."))
        text = str(reason)
        assert text.endswith(".")
        assert "{" not in text


def test_a_reason_names_presets_devices_and_figures_as_the_page_does_in_both_languages() -> None:
    said = {
        reason.code: (Translator("en").text(reason), Translator("zh").text(reason)) for reason in samples()
    }

    assert said["reason.no_room"] == (
        'Nothing that the preset "High VRAM" may use holds this model.',
        "预设“大显存”可用的设备都放不下这个模型。",
    )
    assert said["reason.assumed"] == (
        "Assumed, not measured: PCIe speed, RAM speed.",
        "以下数值为推定，未经测量：PCIe 速度、内存速度。",
    )
    assert said["reason.short"][1] == "内存需要容纳 2.0 GB，可用 1.0 GB，差 1.0 GB。"
    assert said["reason.hybrid_by_hand"][1] == "按你的设置，32 层中有 12 层在 cuda:0，其余在内存中和磁盘上。"
