"""Reuse is exact to the last bit, in every precision: the reason why answers can't differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event as Flag

import pytest
import torch

from backends.engines.paths import ChunkedPath
from backends.engines.transformers_engine import TransformersEngine
from backends.messages import ImagePart, Message, Role, TextPart
from tests.support.plans import make_plan

LONG = "The red circle is near the other thing. " * 8


@pytest.fixture(params=["fp32", "bf16", "fp16"])
def path(request: pytest.FixtureRequest, models: Callable[[str], Path]) -> ChunkedPath:
    """The chunked path of a tiny LLaVA in each precision."""
    engine = TransformersEngine()
    plan = make_plan(models("llava"), precision=request.param, context_tokens=1024)
    engine.load(plan, lambda _: None, Flag())
    assert isinstance(engine._path, ChunkedPath)
    return engine._path


def logits(path: ChunkedPath, messages: Sequence[Message], conversation: str) -> tuple[torch.Tensor, int]:
    """First-token logits, and how many tokens were reused."""
    opened = path.open(conversation, messages, 16)
    try:
        first = path.first(Flag())
        for token in (50, 60, 70):  # an answer, so that decoded tokens are in the cache too
            path.step(token)
        return first.clone(), opened.reused
    finally:
        path.shut()


def test_logits_with_and_without_reuse_are_the_same_bits(
    path: ChunkedPath, picture: Callable[[str], ImagePart]
) -> None:
    turn = [Message(Role.USER, (picture("red"), TextPart(LONG)))]
    follow_up = [*turn, Message(Role.ASSISTANT, (TextPart(LONG),)), Message(Role.USER, (TextPart("And?"),))]
    alone, nothing = logits(path, follow_up, "alone")
    path._store.clear()
    logits(path, turn, "tab")
    path.prime("tab", [*follow_up[:-1], Message(Role.USER, (TextPart("An"),))], Flag())
    reusing, reused = logits(path, follow_up, "tab")
    assert nothing == 0
    assert reused >= 256
    assert torch.equal(alone, reusing)


def test_logits_are_those_of_the_models_own_forward(
    models: Callable[[str], Path], picture: Callable[[str], ImagePart]
) -> None:
    """In one chunk the same bits; in several only sums are split differently."""
    engine = TransformersEngine()
    engine.load(make_plan(models("llava"), context_tokens=1024), lambda _: None, Flag())
    path = engine._path
    assert isinstance(path, ChunkedPath)
    messages = [Message(Role.USER, (picture("red"), TextPart(LONG)))]
    ours, _ = logits(path, messages, "tab")
    prompt = path._builder.build(messages)
    model = path._runner._model
    with torch.inference_mode():
        theirs = model(
            input_ids=torch.tensor([prompt.ids]), pixel_values=prompt.spans[0].picture.inputs["pixel_values"]
        ).logits[:, -1]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    engine.close()
