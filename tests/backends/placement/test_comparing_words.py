"""Two figures that a sentence compares read differently; those that read alike are not said to differ."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from backends.placement import ladder_words, need_words, precision_words, reasons, shortages, why_not
from backends.placement.types import Expected
from backends.text import Text, human_bytes, human_rate, human_seconds
from tests.support.machines import GIB
from tests.support.plans import make_plan

MIB = 2**20
FIGURE = re.compile(r"\d[\d,.]* ?(?:ms|min|[KMGT]?B|s|h)?\b")
RATES = [
    (0.0041, 0.0044),
    (0.0004, 0.0041),
    (1.04, 1.02),
    (1.0, 1.2),
    (7.96, 8.04),
    (30.0, 30.01),
    (2.0, 9.0),
]
BELOW_FIVE = [(4.96, 5.0), (0.004, 5.0)]
SECONDS = [(0.041, 0.0412), (2.02, 2.04), (30.2, 30.4), (100.0, 125.0), (8000.0, 8100.0), (2.0, 90.0)]
BYTES = [(5 * GIB, 5 * GIB + MIB), (5 * GIB, 6 * GIB), (200 * MIB, 200 * MIB + 9), (9, 10)]


def _shares(before: int, after: int) -> Text:
    failed, plan = (
        replace(made, devices=tuple(replace(share, weights_bytes=size) for share in made.devices[:1]))
        for made, size in ((make_plan("m"), before), (make_plan("m"), after))
    )
    return ladder_words._freed(failed, plan, failed.devices[0].device)


def _steps(before: Expected, after: Expected) -> Text:
    failed, plan = replace(make_plan("m"), expected=before), replace(make_plan("m"), expected=after)
    return Text("all", " ".join(map(str, ladder_words._speed(failed, plan))))


MAKERS: dict[str, tuple[list[tuple[float, float]], Callable[[float, float], Text]]] = {
    "slower": (RATES, why_not.why_slower),
    "below reading speed": (BELOW_FIVE, why_not.why_below_reading),
    "later": (SECONDS, lambda less, more: why_not.why_later(77.7, more, less)),
    "the preset's way comes first": (SECONDS, why_not.why_resort),
    "compute": (RATES, lambda less, more: reasons.compute_mode(more, less)),
    "stream": (RATES, reasons.stream_mode),
    "compute only": (RATES, lambda less, more: reasons.compute_only(more, less)),
    "stream only": (RATES, reasons.stream_only),
    "slow": (BELOW_FIVE, reasons.slow),
    "late": (SECONDS, lambda less, more: reasons.late(more, less)),
    "an answer's time": (
        RATES, lambda less, more: reasons.mode_answer(Expected(1, 0.3, more), Expected(1, 0.7, less)),
    ),
    "short": (BYTES, lambda less, more: shortages.short("RAM", int(more), int(less))),
    "short while loading": (BYTES, lambda less, more: shortages.short_loading(int(more), int(less))),
    "short of commit": (BYTES, lambda less, more: shortages.short_commit(int(more), int(less), 77 * GIB)),
    "no room for fp32": (BYTES, lambda less, more: precision_words.cpu_bf16_no_room(int(more), int(less))),
    "needed RAM": (BYTES, lambda less, more: need_words.ram(int(more), int(less))),
    "freed by a step": (BYTES, lambda less, more: _shares(int(more), int(less))),
    "slower after a step": (RATES, lambda less, more: _steps(Expected(1, 1, more), Expected(1, 1, less))),
    "later after a step": (SECONDS, lambda less, more: _steps(Expected(1, less, 7), Expected(1, more, 7))),
}  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
def test_no_figure_stands_twice_in_a_sentence(name: str) -> None:
    pairs, make = MAKERS[name]
    human = {id(SECONDS): human_seconds, id(BYTES): human_bytes}.get(id(pairs), human_rate)
    apart = 0
    for less, more in pairs:
        said = str(make(less, more))
        twice = [figure for figure, count in Counter(FIGURE.findall(said)).items() if count > 1]
        assert twice == [], said
        apart += human(less) in said and human(more).removesuffix(".0") in said
    assert apart or name in ("later after a step", "an answer's time"), "where they differ, both are said"


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (why_not.why_slower(0.0041, 0.0042), "It brings nothing more here (about 0.004 tokens/s)."),
        (
            reasons.compute_mode(0.0042, 0.0041),
            ("Layers in RAM compute on the CPU: about 0.004 tokens/s, as many as if they were sent to the "
            "GPU for every token."),
        ),
        (reasons.slow(4.97, 5.0), "It is just below reading speed (5 tokens/s), which counts as slow."),
        (reasons.late(30.2, 30.0), "An answer's first word takes just over 30 s, which counts as slow."),
        (
            shortages.short("RAM", 5 * GIB + MIB, 5 * GIB),
            "RAM would have to hold 1.0 MB more than the 5.0 GB of it that can be used.",
        ),
        (
            need_words.ram(16 * GIB + 9 * MIB, 16 * GIB),
            "Beside that, the machine needs 9.0 MB more than its 16.0 GB of RAM.",
        ),
    ],
)  # fmt: skip
def test_what_reads_alike(said: Text, sentence: str) -> None:
    assert str(said) == sentence
