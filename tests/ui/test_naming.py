"""What engines and precisions are called."""

from __future__ import annotations

import pytest

from ui.i18n import Translator
from ui.naming import engine_name, precision_name, short_name

SAY, ZH = Translator("en"), Translator("zh")


@pytest.mark.parametrize(
    ("precision", "said"),
    [
        ("q8_0", "8-bit (Q8_0)"),
        ("q4_0", "4-bit (Q4_0)"),
        ("q4_k_m", "4-bit (Q4_K_M)"),
        ("iq2_xxs", "2-bit (IQ2_XXS)"),
        ("mxfp4", "4-bit (MXFP4)"),
        ("f16", "16-bit (F16)"),
        ("f32", "32-bit (F32)"),
        ("int8", "8-bit"),
        ("nf4", "4-bit"),
        ("fp16", "fp16"),
        ("fp32", "fp32"),
        ("bf16", "bf16"),
        ("something", "something"),
    ],
)
def test_precisions(precision: str, said: str) -> None:
    assert precision_name(precision, SAY) == said


def test_precisions_in_chinese() -> None:
    assert precision_name("q8_0", ZH) == "8 位（Q8_0）"


@pytest.mark.parametrize(
    ("engine", "precision", "name", "short"),
    [
        ("llamacpp", "q8_0", "llama.cpp", "llama.cpp Q8_0"),
        ("transformers", "bf16", "transformers", "bf16"),
        ("fake", "q8_0", "fake", "q8_0"),
    ],
)
def test_engines(engine: str, precision: str, name: str, short: str) -> None:
    assert engine_name(engine) == name
    assert short_name(engine, precision) == short
