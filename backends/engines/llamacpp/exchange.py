"""One request to the library, on a thread of its own, so that its answer can be left at any time."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from backends.engines.llamacpp.server import Server

_log = logging.getLogger(__name__)

# Pieces that come within this time of the last ones wait for the next: whoever wakes up to take them does so
# on a core that computes, and the other cores wait for that one.
_TOGETHER_S = 0.05


@dataclass(frozen=True, slots=True)
class Reading:
    """`done` of `total` prompt tokens are in the cache, `reused` of them since before."""

    done: int
    total: int
    reused: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of the answer up to its `count`-th token, whose id is `token` (None: not told).

    `raw` are the bytes since the piece before: a character may be complete only with its last token. `at` is
    when it came, by `time.perf_counter`.
    """

    text: str
    token: int | None
    raw: bytes
    count: int
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Said:
    """The pieces since the last ones, at least one."""

    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The library is done. `reason` is None for a request that was stopped."""

    reason: str | None = None
    tokens: int = 0
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """The library's error document, or what went wrong in calling it."""

    document: dict[str, Any]
    error: BaseException | None = None


Heard = Reading | Said | Ended | Refused


class Exchange:
    """Asks at once; `next` gives what is heard, `Ended` or `Refused` last.

    The library looks whether it shall stop after every pass of a prompt and after every token of an answer,
    and never while it encodes a picture: whoever can't wait leaves and lets `join` end it. With `only_count`
    the request ends with the first `Reading`, which tells the prompt's length, before anything is computed.
    `cancel` ends it as `stop` does. The first piece of an answer is there at once, later ones at most every
    `_TOGETHER_S`.
    """

    def __init__(
        self,
        server: Server,
        body: dict[str, Any],
        *,
        only_count: bool = False,
        cancel: threading.Event | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._only_count = only_count
        self._clock = clock
        self._heard: queue.SimpleQueue[Heard] = queue.SimpleQueue()
        self._pieces: list[Piece] = []
        self._handed = float("-inf")
        self._stop = threading.Event()
        self._cancel = cancel or self._stop
        self._reason: str | None = None
        self._tokens = self._prompt = 0
        self._thread = threading.Thread(target=self._run, args=(server, body), name="snug-llama", daemon=True)
        self._thread.start()

    def next(self, seconds: float) -> Heard | None:
        """What comes next; None when nothing has come in `seconds`."""
        try:
            return self._heard.get(timeout=seconds)
        except queue.Empty:
            return None

    def stop(self) -> None:
        """Ask for the end."""
        self._stop.set()

    def join(self, seconds: float | None = None) -> bool:
        """Wait for the end; False when it has not come in `seconds`."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self, server: Server, body: dict[str, Any]) -> None:
        try:
            server.ask(body, self._hear)
        except BaseException as error:  # noqa: BLE001 - whoever waits for an answer must learn of it
            self._hand(Refused({"message": str(error)}, error))
        else:
            self._hand(Ended(self._reason, self._tokens, self._prompt))

    def _hear(self, chunk: dict[str, Any]) -> bool:
        """Take one chunk; True stops the request. The library takes exceptions for True and hides them."""
        if self._stop.is_set() or self._cancel.is_set():
            self._reason = None
            return True
        try:
            self._take(chunk)
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
            _log.exception("A chunk that llama.cpp sent was not understood.")
            self._hand(Refused({"message": "chunk"}, error))
            return True
        return self._only_count

    def _take(self, chunk: dict[str, Any]) -> None:
        if (document := chunk.get("error")) is not None:
            self._hand(Refused(dict(document)))
            return
        if (usage := chunk.get("usage")) is not None:
            self._tokens, self._prompt = usage["completion_tokens"], usage["prompt_tokens"]
        choices = chunk.get("choices") or []
        if (progress := chunk.get("prompt_progress")) is not None:
            self._hand(Reading(progress["processed"], progress["total"], progress["cache"]))
            return
        if not choices:
            return
        self._reason = choices[0].get("finish_reason") or self._reason
        said = (choices[0].get("logprobs") or {}).get("content") or []
        text = choices[0]["delta"].get("content") or ""
        if text or said:
            token, raw = (said[-1]["id"], bytes(said[-1]["bytes"])) if said else (None, text.encode())
            count = chunk.get("timings", {}).get("predicted_n", 0)
            self._say(Piece(text, token, raw, count, self._clock()))

    def _say(self, piece: Piece) -> None:
        self._pieces.append(piece)
        if piece.at - self._handed >= _TOGETHER_S:
            self._handed = piece.at
            self._hand()

    def _hand(self, other: Heard | None = None) -> None:
        """Give what was kept back, and `other` behind it."""
        if self._pieces:
            self._heard.put(Said(tuple(self._pieces)))
            self._pieces.clear()
        if other is not None:
            self._heard.put(other)
