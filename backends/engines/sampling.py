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
_WINDOW = 8
# Below this, dividing by the temperature can leave fp32's range; the outcome is the greedy one long before.
_GREEDY_BELOW = 1e-5
_SEEDS = 2**64  # what torch's generators tell apart


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

    if sampling.temperature < _GREEDY_BELOW:
        return lambda logits, ids: int(penalized(logits, ids).argmax())
    warpers = LogitsProcessorList([TemperatureLogitsWarper(float(sampling.temperature))])
    if sampling.top_p < 1.0:
        warpers.append(TopPLogitsWarper(float(sampling.top_p)))
    generator = torch.Generator(device=device)
    if sampling.seed is None:
        generator.seed()
    else:
        generator.manual_seed(sampling.seed % _SEEDS)

    def draw(logits: torch.Tensor, ids: Sequence[int]) -> int:
        scores = warpers(None, penalized(logits, ids).float())
        return int(torch.multinomial(scores.softmax(-1), 1, generator=generator))

    return draw


class Detokenizer:
    """Text of a growing list of tokens, in pieces that never hold half a character.

    Decodes a short window of the newest tokens, whose first one keeps the spacing right.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._sent = 0
        self._begun = False

    def push(self, token: int) -> str:
        """The text that `token` completes, often a word, empty while a character is incomplete."""
        self._window.append(token)
        text = self._decode(self._window)
        whole = text.rstrip(_BROKEN)
        piece = self._take(whole)
        if len(self._window) >= _WINDOW and len(whole) == len(text):
            self._shorten()
        return piece

    def finish(self) -> str:
        """What was held back when no more tokens come."""
        return self._take(self._decode(self._window))

    def _take(self, text: str) -> str:
        piece = text[self._sent :]
        self._sent = max(self._sent, len(text))
        if not self._begun:  # templates such as Vicuna's leave the space before the answer to the model
            piece = piece.lstrip()
            self._begun = bool(piece)
        return piece

    def _shorten(self) -> None:
        """Keep the last token as context for the next, unless it holds a part of a character."""
        last = self._decode(self._window[-1:])
        if last and _BROKEN not in last:
            self._window = self._window[-1:]
            self._sent = len(last)

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text
