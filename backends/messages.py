"""The words that the user interface, the service, the worker and the engines share in a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class TextPart:
    """Plain text (Markdown when it comes from the model)."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A picture that was decoded, oriented and stored as RGB PNG by `backends.images`.

    `sha256` is the digest of size and pixels: two pictures share a cache entry only when it is equal.
    """

    path: Path
    sha256: str
    width: int
    height: int


Part = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """All text of the turn, joined by newlines."""
        return "\n".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """The pictures of the turn, in order."""
        return tuple(part for part in self.parts if isinstance(part, ImagePart))


def asks_about_pictures(messages: Sequence[Message]) -> bool:
    """Whether the question itself, the last turn of the user, comes with pictures."""
    question = next((message for message in reversed(messages) if message.role is Role.USER), None)
    return question is not None and bool(question.images)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How an answer is drawn. `temperature` 0 is greedy; `seed` None draws anew every time."""

    temperature: float = 0.2
    top_p: float = 1.0
    max_tokens: int = 512
    seed: int | None = None


FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one answer. `reused_tokens` were already in the KV cache."""

    prompt_tokens: int
    image_tokens: int
    completion_tokens: int
    reused_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds from the engine's receipt of the request; `tokens_per_s` counts decoding only."""

    first_token_s: float
    tokens_per_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer's text."""

    text: str


# Stages whose progress is counted in bytes.
IN_BYTES = ("read", "converting", "move")


@dataclass(frozen=True, slots=True)
class Progress:
    """Work that takes a while. `done` and `total` are bytes for the stages in `IN_BYTES`, 0 when unknown.

    `wait` is for the answer under way, which a move lets end first. `converting` counts a checkpoint's bytes
    that are written anew as GGUF, `comparing` tries which of several forms of these gives the right answers.
    """

    stage: Literal[
        "start", "read", "converting", "comparing", "place", "warm_up", "wait", "move", "encode", "prefill"
    ]
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Queued:
    """The request waits; `position` 1 is next in line."""

    position: int


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is complete. `token_ids` are the generated ids, the end token excluded."""

    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    token_ids: tuple[int, ...]


Event = TextDelta | Progress | Queued | Done
