"""Draw the next token, and turn tokens into text piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from backends.messages import SamplingParams

Draw = Callable[[torch.Tensor, Sequence[int]], int]
_BROKEN = "\ufffd"  # what decoders write for a character whose bytes are not all there yet


def make_draw(sampling: SamplingParams, repetition_penalty: float, device: torch.device) -> Draw:
    """A function from last-token logits [1, vocab] and the tokens so far to the next token id.

    Temperature 0 takes the most probable token; `seed` makes the rest repeatable on the same device.
    """
    penalty = RepetitionPenaltyLogitsProcessor(repetition_penalty) if repetition_penalty != 1.0 else None

    def penalized(logits: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
        if penalty is None:
            return logits
        seen = torch.tensor([list(ids)], dtype=torch.long, device=logits.device)
        punished: torch.Tensor = penalty(seen, logits.float())
        return punished

    if sampling.temperature <= 0:
        return lambda logits, ids: int(penalized(logits, ids).argmax())
    warpers = LogitsProcessorList([TemperatureLogitsWarper(float(sampling.temperature))])
    if sampling.top_p < 1.0:
        warpers.append(TopPLogitsWarper(float(sampling.top_p)))
    generator = torch.Generator(device=device)
    if sampling.seed is None:
        generator.seed()
    else:
        generator.manual_seed(sampling.seed)

    def draw(logits: torch.Tensor, ids: Sequence[int]) -> int:
        scores = warpers(None, penalized(logits, ids).float())
        return int(torch.multinomial(scores.softmax(-1), 1, generator=generator))

    return draw


class Detokenizer:
    """Text of a growing list of tokens, in pieces that never hold half a character.

    Decodes a short window only: from the token where the last piece began, which gives the same spacing as
    decoding all, to the newest.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._start = 0
        self._shown = 0
        self._begun = False

    def push(self, token: int) -> str:
        """The text that `token` completes, often a word, empty while a character is incomplete."""
        self._ids.append(token)
        return self._piece(final=False)

    def finish(self) -> str:
        """What was held back when no more tokens come."""
        return self._piece(final=True)

    def _piece(self, *, final: bool) -> str:
        known = self._decode(self._ids[self._start : self._shown])
        text = self._decode(self._ids[self._start :])
        if len(text) <= len(known) or (text.endswith(_BROKEN) and not final):
            return ""
        self._start, self._shown = self._shown, len(self._ids)
        return self._without_leading_space(text[len(known) :])

    def _without_leading_space(self, piece: str) -> str:
        """Templates such as Vicuna's leave the space before the answer to the model."""
        if not self._begun:
            piece = piece.lstrip()
            self._begun = bool(piece)
        return piece

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text
