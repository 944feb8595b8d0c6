"""Drawing tokens and writing them as text."""

from __future__ import annotations

import pytest
import torch

from backends.engines.sampling import Detokenizer, make_draw
from backends.messages import SamplingParams
from tests.support.tiny_models import make_tokenizer

CPU = torch.device("cpu")
LOGITS = torch.tensor([[0.0, 3.0, 2.9, -1.0]])

TEXTS = {
    "words": "The red circle is there.",
    "two-byte letters": "Größe: über café",
    "Chinese": "图片里有三个红色的圆。",
    "emoji of several code points": "ok 👩‍🚀🏳️‍🌈 done",
    "leading and trailing blanks": "a  b   ",
    "newlines": "one\n\n- two\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_pieces_join_to_the_whole_text_and_never_hold_half_a_character(text: str) -> None:
    tokenizer = make_tokenizer()
    detokenizer = Detokenizer(tokenizer)
    pieces = [detokenizer.push(token) for token in tokenizer.encode(text)]
    assert "".join(pieces) == text
    assert detokenizer.finish() == ""
    assert not any("\ufffd" in piece for piece in pieces)


def test_text_is_shown_as_soon_as_it_is_complete() -> None:
    tokenizer = make_tokenizer()
    detokenizer = Detokenizer(tokenizer)
    assert [detokenizer.push(token) for token in tokenizer.encode("aé圆b")] == [
        "a",
        "",
        "é",
        "",
        "",
        "圆",
        "b",
    ]


def test_what_stays_incomplete_comes_at_the_end() -> None:
    tokenizer = make_tokenizer()
    detokenizer = Detokenizer(tokenizer)
    tokens = tokenizer.encode("a圆")[:-1]
    assert "".join(detokenizer.push(token) for token in tokens) == "a"
    assert detokenizer.finish() == "\ufffd"


def test_leading_space_and_special_tokens_are_not_shown() -> None:
    tokenizer = make_tokenizer()
    detokenizer = Detokenizer(tokenizer)
    assert "".join(detokenizer.push(token) for token in tokenizer.encode("  hi<|endoftext|> you")) == "hi you"


@pytest.mark.parametrize("penalty", [1.0, 1.2])
def test_temperature_zero_takes_the_most_probable_token(penalty: float) -> None:
    draw = make_draw(SamplingParams(temperature=0.0), penalty, CPU)
    assert draw(LOGITS, (0,)) == 1


def test_a_repetition_penalty_moves_on() -> None:
    draw = make_draw(SamplingParams(temperature=0.0), 2.0, CPU)
    assert draw(LOGITS, (1,)) == 2


def test_top_p_leaves_out_the_tail() -> None:
    draw = make_draw(SamplingParams(temperature=1.0, top_p=0.5, seed=0), 1.0, CPU)
    assert {draw(LOGITS, ()) for _ in range(100)} == {1}


def test_a_seed_repeats_the_draws_and_temperature_spreads_them() -> None:
    def draws(seed: int) -> list[int]:
        draw = make_draw(SamplingParams(temperature=2.0, seed=seed), 1.0, CPU)
        return [draw(LOGITS, ()) for _ in range(50)]

    assert draws(5) == draws(5)
    assert draws(5) != draws(6)
    assert len(set(draws(5))) > 1


@pytest.mark.parametrize("temperature", [1e-6, 1e-30, 1e-45, 5e-324])
def test_a_tiny_temperature_is_greedy_and_stays_in_range(temperature: float) -> None:
    draw = make_draw(SamplingParams(temperature=temperature, seed=0), 1.0, CPU)
    assert {draw(LOGITS * 20, ()) for _ in range(20)} == {1}


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1, 2**64, 10**30])
def test_every_whole_number_is_a_seed(seed: int) -> None:
    draws = [make_draw(SamplingParams(temperature=2.0, seed=seed), 1.0, CPU) for _ in range(2)]
    assert [draws[0](LOGITS, ()) for _ in range(20)] == [draws[1](LOGITS, ()) for _ in range(20)]
