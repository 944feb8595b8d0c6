"""Each token passes its own expert and no other: words never touch the weights for pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event as Flag
from typing import Any

import pytest
import torch
from torch import nn

from backends.engines.originals.cogvlm.decoder import by_expert, sides
from backends.engines.originals.cogvlm.modeling import CogVLMForCausalLM
from backends.messages import Role
from tests.support.original_cogvlm import NAMES, Case, cases, chunked, loaded, said, voice_of

CASES = cases()


@contextmanager
def counted(model: CogVLMForCausalLM) -> Iterator[Counter[str]]:
    """How many tokens pass each Linear of the decoder's layers."""
    seen: Counter[str] = Counter()
    handles = []

    def hook(name: str) -> Any:
        def count(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            seen[name] += inputs[0].shape[:-1].numel()

        return count

    for name, module in model.model.layers.named_modules():
        if isinstance(module, nn.Linear):
            handles.append(module.register_forward_pre_hook(hook(name)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def of_side(seen: Counter[str], side: str) -> set[int]:
    """The different numbers of tokens that the Linears of one side saw."""
    return {count for name, count in seen.items() if side in name}


def chat(fixture: str) -> Case:
    """The conversation with a picture."""
    return next(case for case in CASES if case.fixture == fixture and case.name == "chat")


@pytest.mark.parametrize("fixture", NAMES)
def test_reading_a_prompt_computes_each_token_once(fixture: str) -> None:
    case = chat(fixture)
    path = chunked(case.model, case.voice.prompts)
    path.open("tab", case.messages, 16)
    with counted(case.model) as seen:
        path.first(Flag())
    pictures = case.expected["vision_tokens"] - 1  # the closing marker is a word
    assert of_side(seen, "vision_") == {pictures}
    assert of_side(seen, "language_") == {case.expected["sequence_length"] - pictures}


@pytest.mark.parametrize("fixture", NAMES)
def test_decoding_never_touches_the_experts_for_pictures(fixture: str) -> None:
    case = chat(fixture)
    path = chunked(case.model, case.voice.prompts)
    path.open("tab", case.messages, 16)
    path.first(Flag())
    with counted(case.model) as seen:
        for token in (5, 6, 7):
            path.step(token)
    assert of_side(seen, "vision_") == set()
    assert of_side(seen, "language_") == {3}


@pytest.mark.parametrize("fixture", NAMES)
def test_generate_never_touches_them_while_decoding_either(fixture: str) -> None:
    case = chat(fixture)
    with counted(case.model) as seen:
        case.model.generate(**case.inputs(), max_new_tokens=5, do_sample=False)
    pictures = case.expected["vision_tokens"] - 1
    assert of_side(seen, "vision_") == {pictures}
    assert of_side(seen, "language_") == {case.expected["sequence_length"] - pictures + 4}


@pytest.mark.parametrize("fixture", NAMES)
def test_words_alone_never_touch_them(fixture: str) -> None:
    model = loaded(fixture)
    path = chunked(model, voice_of(fixture).prompts)
    path.open("tab", [said(Role.USER, "Who are you?")], 16)
    with counted(model) as seen:
        path.first(Flag())
    assert of_side(seen, "vision_") == set()


@pytest.mark.parametrize("fixture", NAMES)
def test_the_weights_for_pictures_may_be_anything_for_words(fixture: str) -> None:
    case = next(case for case in CASES if case.fixture == fixture and case.name == "text_only")
    model = case.model
    kept = {name: value.clone() for name, value in model.state_dict().items() if "vision" in name}
    try:
        for name, value in model.state_dict().items():
            if "vision" in name:
                value.fill_(torch.nan)
        with torch.inference_mode():
            logits = model(**case.inputs(), logits_to_keep=8).logits[0]
    finally:
        for name, value in kept.items():
            model.state_dict()[name].copy_(value)
    assert (logits - case.tensor("logits_last8")).abs().max() <= 2e-4


def double(value: torch.Tensor) -> torch.Tensor:
    return 2 * value


def negative(value: torch.Tensor) -> torch.Tensor:
    return -value


@pytest.mark.parametrize(
    ("vision", "out"),
    [
        ([[False, False], [False, False]], [[-1.0, -2.0], [-3.0, -4.0]]),
        ([[True, True], [True, True]], [[2.0, 4.0], [6.0, 8.0]]),
        ([[True, False], [False, True]], [[2.0, -2.0], [-3.0, 8.0]]),
    ],
    ids=["all words", "all of a picture", "a batch of both"],
)
def test_tokens_are_picked_apart_and_put_back(vision: list[list[bool]], out: list[list[float]]) -> None:
    hidden = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    assert by_expert(hidden, sides(torch.tensor(vision)), double, negative)[..., 0].tolist() == out


def test_an_expert_without_tokens_is_not_called() -> None:
    def never(_: torch.Tensor) -> torch.Tensor:
        raise AssertionError("called")

    hidden = torch.ones(1, 2, 1)
    assert torch.equal(by_expert(hidden, None, never, double), 2 * hidden)
    assert torch.equal(
        by_expert(hidden, sides(torch.ones(1, 2, dtype=torch.bool)), double, never), 2 * hidden
    )
