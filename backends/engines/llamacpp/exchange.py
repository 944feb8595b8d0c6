"""One request to the library, on a thread of its own, so that its answer can be left at any time."""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass
from typing import Any

from backends.engines.llamacpp.server import Server

_log = logging.getLogger(__name__)


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


Heard = Reading | Piece | Ended | Refused


class Exchange:
    """Asks at once; `next` gives what is heard, `Ended` or `Refused` last.

    The library looks whether it shall stop after every pass of a prompt and after every token of an answer,
    and never while it encodes a picture: whoever can't wait leaves and lets `join` end it. With `only_count`
    the request ends with the first `Reading`, which tells the prompt's length, before anything is computed.
    """

    def __init__(self, server: Server, body: dict[str, Any], *, only_count: bool = False) -> None:
        self._only_count = only_count
        self._heard: queue.SimpleQueue[Heard] = queue.SimpleQueue()
        self._stop = threading.Event()
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
            self._heard.put(Refused({"message": str(error)}, error))
        else:
            self._heard.put(Ended(self._reason, self._tokens, self._prompt))

    def _hear(self, chunk: dict[str, Any]) -> bool:
        """Take one chunk; True stops the request. The library takes exceptions for True and hides them."""
        if self._stop.is_set():
            self._reason = None
            return True
        try:
            self._take(chunk)
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
            _log.exception("A chunk that llama.cpp sent was not understood.")
            self._heard.put(Refused({"message": "chunk"}, error))
            return True
        return self._only_count

    def _take(self, chunk: dict[str, Any]) -> None:
        if (document := chunk.get("error")) is not None:
            self._heard.put(Refused(dict(document)))
            return
        if (usage := chunk.get("usage")) is not None:
            self._tokens, self._prompt = usage["completion_tokens"], usage["prompt_tokens"]
        choices = chunk.get("choices") or []
        if (progress := chunk.get("prompt_progress")) is not None:
            self._heard.put(Reading(progress["processed"], progress["total"], progress["cache"]))
            return
        if not choices:
            return
        self._reason = choices[0].get("finish_reason") or self._reason
        said = (choices[0].get("logprobs") or {}).get("content") or []
        text = choices[0]["delta"].get("content") or ""
        if text or said:
            token, raw = (said[-1]["id"], bytes(said[-1]["bytes"])) if said else (None, text.encode())
            count = chunk.get("timings", {}).get("predicted_n", 0)
            self._heard.put(Piece(text, token, raw, count, time.perf_counter()))
