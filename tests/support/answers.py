"""Questions to an engine in this process, and whole answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event as Flag

from backends.engines.base import ChatRequest
from backends.engines.transformers_engine import TransformersEngine
from backends.messages import (
    Done,
    ImagePart,
    Message,
    Part,
    Role,
    SamplingParams,
    TextDelta,
    TextPart,
)

Draw = Callable[[str], ImagePart]
Engines = Callable[[str], TransformersEngine]
Models = Callable[[str], Path]

LONG = " ".join(f"The {color} circle is near the other thing." for color in ("red", "green", "blue") * 3)
_names = (f"fresh-{index}" for index in itertools.count())


def user(*parts: str | ImagePart) -> Message:
    return Message(Role.USER, tuple(_part(part) for part in parts))


def said(text: str) -> Message:
    return Message(Role.ASSISTANT, (TextPart(text),))


def _part(part: str | ImagePart) -> Part:
    return TextPart(part) if isinstance(part, str) else part


def greedy(max_tokens: int = 24) -> SamplingParams:
    return SamplingParams(temperature=0.0, max_tokens=max_tokens)


def ask(
    engine: TransformersEngine,
    messages: Sequence[Message],
    conversation: str | None = None,
    sampling: SamplingParams | None = None,
) -> tuple[str, Done]:
    """One whole answer; without a conversation's name nothing of that conversation can be reused."""
    request = ChatRequest(conversation or next(_names), messages, sampling or greedy())
    events = list(engine.chat(request, Flag()))
    assert isinstance(events[-1], Done)
    return "".join(event.text for event in events if isinstance(event, TextDelta)), events[-1]


def ask_alone(engine: TransformersEngine, messages: Sequence[Message], max_tokens: int = 24) -> Done:
    """The answer without any reuse."""
    forget(engine)
    done = ask(engine, messages, sampling=greedy(max_tokens))[1]
    assert done.usage.reused_tokens == 0
    return done


def forget(engine: TransformersEngine) -> None:
    """Drop all prefixes."""
    store = getattr(engine._path, "_store", None)
    if store is not None:
        store.clear()
