"""From what the library says to the events of an answer: pieces, limits, ids and times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event as Flag

from backends.engines.llamacpp.errors import why_not_answered
from backends.engines.llamacpp.exchange import Ended, Exchange, Piece, Reading, Refused, Said
from backends.engines.llamacpp.vocabulary import spelled
from backends.errors import ContextExceeded
from backends.messages import Done, Event, FinishReason, Progress, TextDelta, Timings, Usage

# How often a wait looks whether it was called off.
TICK_S = 0.02
# The same once an answer has begun: the exchange itself looks after every token then, and each look takes
# time from the cores that compute.
_TALKING_TICK_S = 0.2
# How long a stopped answer waits for the library: a token or a short pass, not a picture.
_PATIENCE_S = 0.5


@dataclass(slots=True)
class Answer:
    """One answer under way. `context_tokens` bounds prompt and answer together.

    `fragments` gives the tokens that hold parts of characters: the library tells the id of the last token of
    a character only.
    """

    begun: float
    max_tokens: int
    context_tokens: int
    image_tokens: int
    fragments: Callable[[], Mapping[int, bytes]]
    prompt_tokens: int = 0
    reused: int = 0
    room: int = 0
    pieces: list[Piece] = field(default_factory=list)
    speaking: bool = False
    _full: bool = False

    def events(self, exchange: Exchange, cancel: Flag) -> Iterator[Event]:
        """Stream it, `Done` last. The exchange is stopped when this ends; its end may take a moment."""
        finish: FinishReason = "cancelled"
        tokens = 0
        try:
            while not cancel.is_set():
                heard = exchange.next(_TALKING_TICK_S if self.pieces else TICK_S)
                match heard:
                    case None:
                        continue
                    case Reading():
                        yield self._read(heard)
                    case Said(pieces):
                        if text := self._text(pieces):
                            yield TextDelta(text)
                        if self._full and not cancel.is_set():
                            finish, tokens = "length", self._count
                            break
                    case Ended():
                        finish, tokens = _outcome(heard)
                        break
                    case Refused():
                        raise heard.error or why_not_answered(heard.document, self.context_tokens)
        finally:
            exchange.stop()
            exchange.join(_PATIENCE_S)
        yield self._done(finish, tokens if finish != "cancelled" else self._count)

    def _read(self, heard: Reading) -> Progress:
        if heard.total + 1 > self.context_tokens:
            raise ContextExceeded(needed_tokens=heard.total + 1, context_tokens=self.context_tokens)
        self.prompt_tokens, self.reused = heard.total, heard.reused
        self.room = min(self.max_tokens, self.context_tokens - heard.total)
        return Progress("prefill", heard.done, heard.total)

    def _text(self, pieces: Sequence[Piece]) -> str:
        """What `pieces` add to the answer, up to its last token."""
        text = ""
        for piece in pieces:
            if piece.count > self.room:
                self._full = True
                break
            self.pieces.append(piece)
            text += piece.text
            # A token without text may be the one that ends the answer by itself.
            if piece.count == self.room and piece.text:
                self._full = True
                break
        if not self.speaking:  # templates such as Vicuna's leave the space before the answer to the model
            text = text.lstrip()
            self.speaking = bool(text)
        return text

    @property
    def _count(self) -> int:
        return self.pieces[-1].count if self.pieces else 0

    def _done(self, finish: FinishReason, tokens: int) -> Done:
        ids = token_ids([piece for piece in self.pieces if piece.count <= tokens], self.fragments)
        usage = Usage(self.prompt_tokens, self.image_tokens, tokens, self.reused)
        return Done(finish, usage, self._timings(), ids)

    def _timings(self) -> Timings:
        """`tokens_per_s` leaves out the first token, which reading the prompt computed."""
        total = time.perf_counter() - self.begun
        if not self.pieces:
            return Timings(0.0, 0.0, total)
        first, last = self.pieces[0], self.pieces[-1]
        decoding = last.at - first.at
        speed = (last.count - first.count) / decoding if decoding > 0 else 0.0
        return Timings(first.at - self.begun, speed, total)


def _outcome(ended: Ended) -> tuple[FinishReason, int]:
    """Why it ended, and its tokens without the one that ended it."""
    match ended.reason:
        case "stop":
            return "stop", max(0, ended.tokens - 1)
        case "length":
            return "length", ended.tokens
        case _:
            return "cancelled", ended.tokens


def token_ids(pieces: Sequence[Piece], fragments: Callable[[], Mapping[int, bytes]]) -> tuple[int, ...]:
    """The ids behind `pieces`; those of the first tokens of a character are found by its bytes.

    Control tokens in the middle of an answer have no text, and the library does not tell them: they are left
    out.
    """
    ids: list[int] = []
    before = 0
    for piece in pieces:
        missing = piece.count - before - 1
        before = piece.count
        if missing > 0 and piece.token is not None and piece.raw:
            known = fragments()
            own = known.get(piece.token, b"")
            if own and piece.raw.endswith(own):
                ids.extend(spelled(piece.raw[: -len(own)], missing, known) or ())
        if piece.token is not None:
            ids.append(piece.token)
    return tuple(ids)
