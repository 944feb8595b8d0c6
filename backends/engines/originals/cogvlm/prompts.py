"""Conversations in the formats that CogVLM and CogVLM2 were taught."""

from __future__ import annotations

from collections.abc import Sequence

from backends.engines.originals.cogvlm.pictures import CogVLMPictures
from backends.engines.originals.cogvlm.words import Words
from backends.engines.prompt import Prompt, Span, settled
from backends.errors import OnePictureOnly
from backends.messages import ImagePart, Message, Role

# What stands before an answer; the third format, `base`, is the question's text as it is.
_ANSWERS = {"chat": "Answer:", "vqa": "Short answer:"}
_BETWEEN = "\n\n"


class CogVLMPrompts:
    """`Prompts` of a CogVLM: the start token, the picture if there is one, the conversation as one text."""

    def __init__(self, words: Words, pictures: CogVLMPictures, template: str, start: int) -> None:
        self._words = words
        self._pictures = pictures
        self._template = template
        self._start = start

    def build(self, messages: Sequence[Message]) -> Prompt:
        """The prompt that the next answer continues.

        The picture comes first, whichever turn it was shown in. Raises OnePictureOnly for a second one,
        ImageUnreadable.
        """
        text = self._words.encode(written(messages, self._template))
        picture = only_picture(messages)
        if picture is None:
            ids = (self._start, *text)
            return Prompt(ids, ids, ())
        read = self._pictures.read(picture)
        span = Span(1, 1 + len(read.ids), read)
        shown = tuple((token, read.sha256) for token in read.ids)
        return Prompt((self._start, *read.ids, *text), (self._start, *shown, *text), (span,))

    def settled(self, messages: Sequence[Message]) -> tuple[Prompt, int]:
        """A prompt with the draft that ends `messages`, and how many of its tokens no draft can change."""
        return settled(self, messages)


def written(messages: Sequence[Message], template: str) -> str:
    """The conversation in the format `template`: `chat` or `vqa`, or `base`, which knows no history."""
    pairs = _pairs(messages)
    question = pairs[-1][0]
    if template not in _ANSWERS:
        return question
    before_answer = _ANSWERS[template]
    earlier = "".join(f"Question: {asked} {before_answer} {said}\n" for asked, said in pairs[:-1])
    return f"{earlier}Question: {question} {before_answer}"


def only_picture(messages: Sequence[Message]) -> ImagePart | None:
    """The conversation's picture; the same one may be shown again. Raises OnePictureOnly."""
    shown = {image.sha256: image for message in messages for image in message.images}
    if len(shown) > 1:
        raise OnePictureOnly(pictures=len(shown))
    return next(iter(shown.values()), None)


def _pairs(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Questions with their answers, the last one unanswered.

    There is no role for rules: a system text goes before the question that follows. Turns of one speaker,
    which an interrupted chat leaves, are one.
    """
    pairs: list[tuple[str, str]] = []
    asked: list[str] = []
    said: list[str] = []
    for message in messages:
        if message.role is Role.ASSISTANT:
            said.append(message.text)
            continue
        if said:
            pairs.append((_BETWEEN.join(asked), _BETWEEN.join(said)))
            asked, said = [], []
        asked.append(message.text)
    if said:
        pairs.append((_BETWEEN.join(asked), _BETWEEN.join(said)))
        asked = []
    return [*pairs, (_BETWEEN.join(asked), "")]
