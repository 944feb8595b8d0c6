"""The contract of every engine. An engine lives in the worker's child process and holds one model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Event as Flag
from typing import Protocol

from backends.messages import Event, Message, Progress, SamplingParams
from backends.placement.types import Plan
from backends.reports import DevicePeak, LoadReport

ProgressSink = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question with everything before it; `conversation` names the cache to prefer."""

    conversation: str
    messages: Sequence[Message]
    sampling: SamplingParams


class Engine(Protocol):
    """Loads one model as planned and answers; one call at a time, from one thread."""

    def load(self, plan: Plan, progress: ProgressSink, cancel: Flag) -> LoadReport:
        """Carry out `plan`. Raises a `SnugError` (never an upstream exception); `Cancelled` when asked to."""
        ...

    def move(self, plan: Plan, progress: ProgressSink, cancel: Flag) -> LoadReport:
        """Rearrange the loaded model as `plan` says, without reading its checkpoint again.

        Raises CannotMove where that needs the files (`backends.placement.moving.why_reload` tells before),
        OutOfRam, OutOfGpuMemory or DiskFull where there is no room, Cancelled, NotLoaded. After any of them
        the model answers as before; where the way back fails as well, `loaded` is False.
        """
        ...

    @property
    def loaded(self) -> bool:
        """Whether a whole model is in memory."""
        ...

    def rehearse(self, cancel: Flag) -> None:
        """Run what the first answer runs, so that it starts as quickly as later ones.

        Called once after `load`, while nobody asks; nothing is remembered of it. Returns early
        when `cancel` is set.
        """
        ...

    def chat(self, request: ChatRequest, cancel: Flag) -> Iterator[Event]:
        """Stream an answer, ending with `Done` (also when cancelled). Reuses the longest cached prefix."""
        ...

    def prime(self, conversation: str, messages: Sequence[Message], cancel: Flag) -> None:
        """Encode and prefill an unfinished conversation, so that its next answer starts sooner.

        The last message is the draft of a question: its pictures and the turns before it are final, its
        text is not. Returns early, keeping what is done, when `cancel` is set.
        """
        ...

    def memory(self) -> tuple[DevicePeak, ...]:
        """What each device has held at most since `load`; the worker adds what it knows of the RAM."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...
