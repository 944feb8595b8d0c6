"""Conversations as ChatGLM3 was taught them: a token for each speaker, its metadata on a line of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence

from backends.engines.originals.chatglm.words import ChatGLMWords
from backends.engines.prompt import Prompt, settled
from backends.messages import Message, Role

_BEGIN = ("[gMASK]", "sop")
_SPEAKERS = {Role.SYSTEM: "<|system|>", Role.USER: "<|user|>", Role.ASSISTANT: "<|assistant|>"}
# The model begins an answer with the line of metadata, which is empty but for answers to tools.
_NO_METADATA = re.compile(r"[^\S\n]*\n\s*")


class ChatGLMPrompts:
    """`Prompts` of ChatGLM3, which reads text only: pictures are left out."""

    def __init__(self, words: ChatGLMWords) -> None:
        self._words = words

    def build(self, messages: Sequence[Message]) -> Prompt:
        """The prompt that the next answer continues."""
        ids = [self._words.special(name) for name in _BEGIN]
        for message in messages:
            ids.append(self._words.special(_SPEAKERS[message.role]))
            # Metadata and text are two texts, each with its space in front.
            ids += self._words.encode("\n")
            ids += self._words.encode(_said(message))
        ids.append(self._words.special(_SPEAKERS[Role.ASSISTANT]))
        return Prompt(tuple(ids), tuple(ids), ())

    def settled(self, messages: Sequence[Message]) -> tuple[Prompt, int]:
        """A prompt with the draft that ends `messages`, and how many of its tokens no draft can change."""
        return settled(self, messages)


def _said(message: Message) -> str:
    """The message's text; of an answer without the empty line of metadata that the model wrote itself."""
    text = message.text
    begin = _NO_METADATA.match(text) if message.role is Role.ASSISTANT else None
    return text[begin.end() :].rstrip() if begin else text
