"""Turn messages into the tokens that a model reads, with a key for each that says what it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Protocol

from backends.engines.pictures import PictureReader, ReadPicture
from backends.engines.template import ChatTemplate
from backends.errors import InternalError
from backends.messages import ImagePart, Message, Role, TextPart
from backends.text import Text

Key = int | tuple[int, str]


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens [start, end) of one picture, from its first placeholder to its last."""

    start: int
    end: int
    picture: ReadPicture


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation as tokens.

    `keys` are equal exactly where the model would see the same: a text token's key is its id, a picture's
    placeholder also carries the digest of the picture, since all pictures share one placeholder id.
    """

    ids: tuple[int, ...]
    keys: tuple[Key, ...]
    spans: tuple[Span, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def image_tokens(self) -> int:
        """Number of tokens that pictures take."""
        return sum(span.end - span.start for span in self.spans)


class Prompts(Protocol):
    """Writes conversations as one model was trained to read them."""

    def build(self, messages: Sequence[Message]) -> Prompt:
        """The prompt that the next answer continues."""
        ...

    def settled(self, messages: Sequence[Message]) -> tuple[Prompt, int]:
        """A prompt with the draft that ends `messages`, and how many of its tokens no draft can change."""
        ...


class PromptBuilder:
    """`Prompts` of a model with a chat template."""

    def __init__(self, template: ChatTemplate, tokenizer: Any, reader: PictureReader | None) -> None:
        self._template = template
        self._tokenizer = tokenizer
        self._reader = reader

    def build(self, messages: Sequence[Message]) -> Prompt:
        """The prompt that the next answer continues. Pictures are left out for models without eyes."""
        text = self._template.render(messages)
        ids = self._tokenizer.encode(text, add_special_tokens=self._adds_start(text))
        pictures = [image for message in messages for image in message.images]
        return self._expand(ids, pictures)

    def settled(self, messages: Sequence[Message]) -> tuple[Prompt, int]:
        """A prompt with the draft that ends `messages`, and how many of its tokens no draft can change.

        Found by rendering two different drafts: what they share does not depend on the text.
        """
        return settled(self, messages)

    def _adds_start(self, text: str) -> bool:
        """Whether the tokenizer should add its start token: not when the template wrote it."""
        start = getattr(self._tokenizer, "bos_token", None)
        return not (start and text.startswith(start))

    def _expand(self, ids: Sequence[int], pictures: Sequence[ImagePart]) -> Prompt:
        """Replace every placeholder that the template wrote by the tokens of its picture."""
        if self._reader is None:
            return Prompt(tuple(ids), tuple(ids), ())
        placeholder = self._reader.placeholder
        waiting = iter(pictures)
        written: list[int] = []
        keys: list[Key] = []
        spans: list[Span] = []
        for token in ids:
            if token != placeholder:
                written.append(token)
                keys.append(token)
                continue
            picture = next(waiting, None)
            if picture is None:
                raise _lost()
            read = self._reader.read(picture)
            spans.append(Span(len(written), len(written) + len(read.ids), read))
            written.extend(read.ids)
            keys.extend((inner, read.sha256) for inner in read.ids)
        if len(spans) != len(pictures):
            raise _lost()
        return Prompt(tuple(written), tuple(keys), tuple(spans))


def settled(prompts: Prompts, messages: Sequence[Message]) -> tuple[Prompt, int]:
    """`Prompts.settled` for any builder, by writing two different drafts."""
    one, other = (prompts.build(_with_draft(messages, text)) for text in ("Why?", "7 x"))
    shared = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one.keys, other.keys, strict=False))
    )
    return one, shared


def _lost() -> InternalError:
    detail = Text("engine.lost_picture", "The chat template wrote another number of pictures than there are.")
    return InternalError(detail=detail, log=Text("engine.logs", "the logs folder"))


def _with_draft(messages: Sequence[Message], text: str) -> list[Message]:
    last = messages[-1]
    if last.role is not Role.USER:
        return [*messages, Message(Role.USER, (TextPart(text),))]
    return [*messages[:-1], Message(Role.USER, (*last.images, TextPart(text)))]
