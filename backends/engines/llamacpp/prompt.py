"""From messages to what the library reads: texts and pictures in order, by the template of the GGUF file."""

from __future__ import annotations

import datetime as dt
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from backends.engines.llamacpp.vocabulary import Vocabulary
from backends.engines.template import VICUNA, ChatTemplate, first_that_works
from backends.errors import InternalError
from backends.messages import ImagePart, Message, Role, TextPart
from backends.text import Text

# What templates write for a picture, with the markers around it that llama.cpp writes itself.
_PLACEHOLDERS = (
    "<|vision_start|><|image_pad|><|vision_end|>",
    "<start_of_image>",
    "<image>",
    "[IMG]",
    "<|image|>",
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# For a template that takes strings and has no word for a picture: no one types it.
_OWN_PLACEHOLDER = "\ue000picture\ue001"


@dataclass(frozen=True, slots=True)
class Written:
    """A prompt: texts and pictures in the order in which they are read."""

    parts: tuple[str | ImagePart, ...]

    @property
    def pictures(self) -> tuple[ImagePart, ...]:
        """Its pictures, in order."""
        return tuple(part for part in self.parts if isinstance(part, ImagePart))


@dataclass(frozen=True, slots=True)
class Spelling:
    """What becomes of a text before it is split into tokens, where the library leaves that to us.

    `leading_space`: a text gets a space before it unless it begins with one, or with a token of `markup`.
    `composed`: letters and their marks are one character each (Unicode's NFC).
    """

    leading_space: bool = False
    composed: bool = False
    markup: tuple[str, ...] = ()

    def of(self, text: str) -> str:
        """`text` as the model's own tokenizer would split it."""
        if self.composed:
            text = unicodedata.normalize("NFC", text)
        if self.leading_space and text and not text.startswith((" ", *self.markup)):
            text = " " + text
        return text


class Writer:
    """Writes conversations for one model."""

    def __init__(self, template: ChatTemplate, spelling: Spelling = Spelling()) -> None:
        self.template = template
        self.spelling = spelling

    def write(self, messages: Sequence[Message]) -> Written:
        """The prompt that the next answer continues. Pictures are left out for models without eyes.

        Raises SettingInvalid for an order of messages that the template refuses.
        """
        text = self.template.render(messages)
        if not self.template.image_token:
            return Written((self.spelling.of(text),))
        pictures = [image for message in messages for image in message.images]
        starts_with_picture = text.startswith(self.template.image_token)
        if not starts_with_picture:
            text = self.spelling.of(text)
        elif self.spelling.composed:
            text = unicodedata.normalize("NFC", text)
        texts = text.split(self.template.image_token)
        if len(texts) != len(pictures) + 1:
            raise InternalError(
                detail=Text(
                    "engine.lost_picture",
                    "The chat template wrote another number of pictures than there are.",
                ),
                log=Text("engine.logs", "the logs folder"),
            )
        parts: list[str | ImagePart] = [texts[0]]
        for picture, after in zip(pictures, texts[1:], strict=True):
            parts += [picture, after]
        return Written(tuple(part for part in parts if part != ""))

    def settled(self, messages: Sequence[Message]) -> Written:
        """The part of a conversation with a draft that no other text of the draft can change."""
        one, other = (self.write(_with_draft(messages, text)).parts for text in ("Why?", "7 x"))
        shared: list[str | ImagePart] = []
        for left, right in zip(one, other, strict=False):
            if left == right:
                shared.append(left)
                continue
            if isinstance(left, str) and isinstance(right, str):
                shared.append(_common_start(left, right))
            break
        return Written(tuple(part for part in shared if part != ""))


def _common_start(left: str, right: str) -> str:
    same = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        same += 1
    return left[:same]


def _with_draft(messages: Sequence[Message], text: str) -> list[Message]:
    last = messages[-1]
    if last.role is not Role.USER:
        return [*messages, Message(Role.USER, (TextPart(text),))]
    return [*messages[:-1], Message(Role.USER, (*last.images, TextPart(text)))]


def make_writer(
    template: str | None, words: Vocabulary, *, sees: bool, spelling: Spelling = Spelling()
) -> Writer:
    """Find out by trying how the file's template takes pictures and a system message.

    A file without a template is written to as models with its markup are (ChatML), else as LLaVA-1.5.
    """
    usual = CHATML if "<|im_start|>" in words.control else VICUNA
    own = Renderer(template if template is not None else usual, words)
    candidates: list[ChatTemplate] = []
    if template is not None and sees:
        candidates = [ChatTemplate(own, None, placeholder) for placeholder in _PLACEHOLDERS]
        candidates.append(ChatTemplate(own, None, _OWN_PLACEHOLDER, spelled=True))
        candidates.append(ChatTemplate(own, None, _OWN_PLACEHOLDER, parts=False))
    elif template is not None:
        candidates = [ChatTemplate(own, None, "", parts=parts) for parts in (True, False)]
    mark = _OWN_PLACEHOLDER if sees else ""
    candidates.append(ChatTemplate(Renderer(usual, words), None, mark, parts=False))
    return Writer(first_that_works(candidates, words.control), spelling)


class Renderer:
    """Renders a chat template with the functions that published templates count on."""

    def __init__(self, template: str, words: Vocabulary) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _now
        self._environment = environment
        self._source = template
        self._words = words

    def apply_chat_template(
        self, turns: Sequence[dict[str, Any]], *, add_generation_prompt: bool, **_: object
    ) -> str:
        """The text of `turns`. Raises jinja2's TemplateError."""
        return self._environment.from_string(self._source).render(
            messages=turns,
            add_generation_prompt=add_generation_prompt,
            bos_token=self._words.start,
            eos_token=self._words.end,
        )


class _Generation(Extension):
    """`{% generation %}` marks what training looks at; it changes no text."""

    tags = {"generation"}  # noqa: RUF012 - the base class's contract

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(value: Any, indent: int | None = None, **_: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> str:
    raise TemplateError(message)


def _now(layout: str) -> str:
    return dt.datetime.now().astimezone().strftime(layout)
