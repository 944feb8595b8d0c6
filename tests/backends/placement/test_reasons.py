"""Every sentence of a plan is a value that can be translated."""

from __future__ import annotations

import inspect

from backends.placement import reasons
from backends.placement.reason_samples import ALL_REASONS, samples
from backends.text import Text


def test_every_function_has_a_sample() -> None:
    makers = [
        function
        for name, function in inspect.getmembers(reasons, inspect.isfunction)
        if function.__module__ == reasons.__name__ and name != "precision_label"
    ]
    codes = [reason.code for reason in samples()]

    assert len(codes) == len(set(codes)) == len(makers)
    assert samples() == ALL_REASONS


def test_every_sentence_can_be_rendered() -> None:
    for reason in ALL_REASONS:
        assert isinstance(reason, Text)
        assert reason.code.startswith(("reason.", "why."))
        text = str(reason)
        assert text.endswith(".")
        assert "{" not in text
