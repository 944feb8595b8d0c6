"""LLaVA's prompts: the text around every picture becomes tokens by itself, with placeholders between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from backends.engines.originals.llava.conversation import Piece, written
from backends.engines.originals.llava.tokenizer import Markup, Words
from backends.engines.pictures import PictureReader
from backends.engines.prompt import Key, Prompt, Span, settled
from backends.messages import ImagePart, Message
from backends.models.originals.templates import Template

# Signs around every picture, in checkpoints that were trained with them.
_BEFORE, _AFTER = Markup("<im_start>"), Markup("<im_end>")


class LlavaPrompts:
    """`Prompts` in the format of `template`."""

    def __init__(
        self, template: Template, words: Words, reader: PictureReader, *, framed: bool = False
    ) -> None:
        self._template = template
        self._words = words
        self._reader = reader
        self._framed = framed

    def build(self, messages: Sequence[Message]) -> Prompt:
        """The prompt that the next answer continues. Raises ImageUnreadable."""
        ids: list[int] = list(self._words.start)
        keys: list[Key] = list(ids)
        spans: list[Span] = []
        for chunk in _chunks(self._all_pieces(messages)):
            if isinstance(chunk, ImagePart):
                read = self._reader.read(chunk)
                spans.append(Span(len(ids), len(ids) + len(read.ids), read))
                ids.extend(read.ids)
                keys.extend((inner, read.sha256) for inner in read.ids)
                continue
            new = self._words.encode(chunk)
            ids.extend(new)
            keys.extend(new)
        return Prompt(tuple(ids), tuple(keys), tuple(spans))

    def settled(self, messages: Sequence[Message]) -> tuple[Prompt, int]:
        """A prompt with the draft that ends `messages`, and how many of its tokens no draft can change."""
        return settled(self, messages)

    def _all_pieces(self, messages: Sequence[Message]) -> Iterator[Piece]:
        for piece in written(self._template, messages):
            if self._framed and isinstance(piece, ImagePart):
                yield from (_BEFORE, piece, _AFTER)
            else:
                yield piece


def _chunks(pieces: Iterable[Piece]) -> Iterator[list[str | Markup] | ImagePart]:
    """The texts between pictures, and these."""
    text: list[str | Markup] = []
    for piece in pieces:
        if not isinstance(piece, ImagePart):
            text.append(piece)
            continue
        yield text
        yield piece
        text = []
    yield text
