"""From an opened prompt to a streamed answer: draw, detokenise, stop, count."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event as Flag
from typing import Any

import torch

from backends.engines.base import ChatRequest
from backends.engines.paths import Opened, Path
from backends.engines.runner import Interrupted
from backends.engines.sampling import Detokenizer, make_draw
from backends.messages import Done, Event, FinishReason, Progress, TextDelta, Timings, Usage


@dataclass(frozen=True, slots=True)
class Speaker:
    """What answering needs to know of a model beside its path."""

    tokenizer: Any
    stop_ids: frozenset[int]
    repetition_penalty: float
    context_tokens: int
    device: torch.device


def answer(path: Path, speaker: Speaker, request: ChatRequest, cancel: Flag) -> Iterator[Event]:
    """Stream the answer to `request`, ending with `Done`; the path is shut however it ends."""
    begun = time.perf_counter()
    opened = path.open(request.conversation, request.messages, request.sampling.max_tokens)
    room = min(request.sampling.max_tokens, speaker.context_tokens - len(opened.ids))
    try:
        yield Progress("prefill", opened.reused, len(opened.ids))
        said: list[int] = []
        clock = _Clock(begun)
        finish: FinishReason = "cancelled"
        try:
            logits = path.first(cancel)
            detokenizer = Detokenizer(speaker.tokenizer)
            draw = make_draw(request.sampling, speaker.repetition_penalty, speaker.device)
            while True:
                token = draw(logits, (*opened.ids, *said) if speaker.repetition_penalty != 1.0 else ())
                clock.tick()
                if token in speaker.stop_ids:
                    finish = "stop"
                    break
                said.append(token)
                if text := detokenizer.push(token):
                    yield TextDelta(text)
                if cancel.is_set():
                    break
                if len(said) >= room:
                    finish = "length"
                    break
                logits = path.step(token)
            if text := detokenizer.finish():
                yield TextDelta(text)
        except Interrupted:
            pass  # stopped during the prefill: an answer of no words
        yield Done(finish, _usage(opened, said), clock.timings(), tuple(said))
    finally:
        path.shut()


def _usage(opened: Opened, said: list[int]) -> Usage:
    return Usage(len(opened.ids), opened.image_tokens, len(said), opened.reused)


class _Clock:
    """Times of the first and the latest drawn token."""

    def __init__(self, begun: float) -> None:
        self._begun = begun
        self._first = 0.0
        self._last = 0.0
        self._count = 0

    def tick(self) -> None:
        self._last = time.perf_counter()
        self._first = self._first or self._last
        self._count += 1

    def timings(self) -> Timings:
        """`tokens_per_s` leaves out the first token, which the prefill computed."""
        if not self._count:
            return Timings(0.0, 0.0, time.perf_counter() - self._begun)
        decoding = self._last - self._first
        speed = (self._count - 1) / decoding if decoding > 0 else 0.0
        return Timings(self._first - self._begun, speed, time.perf_counter() - self._begun)
