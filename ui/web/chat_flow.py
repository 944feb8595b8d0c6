"""Pure: what a conversation is and how questions, answers and corrections change it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from backends.errors import SnugError
from backends.messages import (
    Done,
    Event,
    ImagePart,
    Message,
    Part,
    Progress,
    Queued,
    Role,
    TextDelta,
    TextPart,
)
from backends.reports import LoadReport

TurnStatus = Literal["waiting", "answering", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and what became of it.

    `ident` names it to the page for as long as the question stands: a button of a turn that is gone, or whose
    question was changed, then does nothing. `stage` is what the model does before its first word, `position`
    the place in the queue (0: served). `by` is the load of the model that answered, where that is known.
    """

    question: Message
    answer: str = ""
    status: TurnStatus = "waiting"
    stage: Progress | None = None
    position: int = 0
    done: Done | None = None
    by: LoadReport | None = None
    error: SnugError | None = None
    ident: str = field(default_factory=lambda: uuid.uuid4().hex[:12], compare=False)


Conversation = tuple[Turn, ...]


def question(text: str, images: Sequence[ImagePart]) -> Message:
    """A person's message: pictures first, as the models were trained; a picture alone is a question, too."""
    parts: list[Part] = list(images)
    if text.strip():
        parts.append(TextPart(text.strip()))
    return Message(Role.USER, tuple(parts))


def ask(turns: Conversation, asked: Message) -> Conversation:
    """Add a question that waits for its answer."""
    return (*turns, Turn(asked))


def regenerate(turns: Conversation, index: int | None = None) -> Conversation:
    """Ask the question of turn `index` (the last by default) again; later turns go."""
    position = len(turns) - 1 if index is None else index
    asked = turns[position]
    return (*turns[:position], Turn(asked.question, ident=asked.ident))


def edit(turns: Conversation, index: int, text: str) -> Conversation:
    """Ask turn `index` with other words and the same pictures; later turns go."""
    return (*turns[:index], Turn(question(text, turns[index].question.images)))


def find(turns: Conversation, ident: str) -> int | None:
    """Where the turn of that name stands now."""
    return next((index for index, turn in enumerate(turns) if turn.ident == ident), None)


def delete(turns: Conversation, index: int) -> Conversation:
    """Remove one question with its answer."""
    return (*turns[:index], *turns[index + 1 :])


def advance(turns: Conversation, event: Event) -> Conversation:
    """Apply what the service says of the last turn."""
    last = turns[-1]
    match event:
        case TextDelta(text):
            last = replace(last, status="answering", answer=last.answer + text, stage=None, position=0)
        case Queued(position):
            last = replace(last, position=position)
        case Progress():
            last = replace(last, stage=event, position=0)
        case Done():
            last = replace(last, status="done", done=event, stage=None, position=0)
    return (*turns[:-1], last)


def answered_by(turns: Conversation, report: LoadReport | None) -> Conversation:
    """Note which load of the model the last turn is answered by."""
    return (*turns[:-1], replace(turns[-1], by=report))


def fail(turns: Conversation, error: SnugError) -> Conversation:
    """The last answer broke off; what had come of it is kept."""
    return (*turns[:-1], replace(turns[-1], status="failed", error=error, stage=None, position=0))


def stop_waiting(turns: Conversation) -> Conversation:
    """The person stopped before the model had begun."""
    return (*turns[:-1], replace(turns[-1], status="done", stage=None, position=0))


def unserved(turns: Conversation) -> bool:
    """Whether the last question has been asked and nobody has begun to answer it."""
    return bool(turns) and turns[-1].status == "waiting"


def waiting(turns: Conversation) -> bool:
    """Whether an answer is awaited or under way; the conversation must not change meanwhile."""
    return bool(turns) and turns[-1].status in ("waiting", "answering")


def settled(turns: Conversation) -> Conversation:
    """As another tab takes it over: an answer that still runs there counts as stopped here."""
    return stop_waiting(turns) if waiting(turns) else turns


def unanswered(turns: Conversation) -> bool:
    """Whether the last question has no whole answer, so that asking it again makes sense."""
    return bool(turns) and turns[-1].status == "failed"


def to_messages(turns: Conversation, system: str | None = None) -> tuple[Message, ...]:
    """What the model reads: the system prompt, the answered turns, and the last question.

    A turn without any answer is left out unless it is the last: roles must take turns.
    """
    messages: list[Message] = []
    if system and system.strip():
        messages.append(Message(Role.SYSTEM, (TextPart(system.strip()),)))
    for turn in turns[:-1]:
        if turn.answer:
            messages += (turn.question, Message(Role.ASSISTANT, (TextPart(turn.answer),)))
    if turns:
        messages.append(turns[-1].question)
    return tuple(messages)


def primer(
    turns: Conversation, images: Sequence[ImagePart], system: str | None = None
) -> tuple[Message, ...]:
    """What can be prefilled while the person types: everything before the draft's text."""
    return to_messages(ask(turns, Message(Role.USER, tuple(images))), system)
