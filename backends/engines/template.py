"""Write a conversation the way a model was trained to read it: chat templates, and what to do without."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError

from backends.errors import SettingInvalid
from backends.messages import ImagePart, Message, Part, Role, TextPart
from backends.text import Text

# The format that LLaVA-1.5 and Vicuna were trained on; many checkpoints without a template descend from them.
VICUNA = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }} "
    "{% elif message['role'] == 'user' %}USER: {{ message['content'] }} "
    "{% else %}ASSISTANT: {{ message['content'] }}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
_PROBE = "qzprobe"


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """How to render messages for one model.

    `parts`: the template takes lists of typed parts (else plain strings, with `image_token` written into
    them); `spelled`: a picture is given to it as a text of its own, which is `image_token`; `system`: it
    knows that role (else the text goes before the first question); `reserved`: markup that only the template
    may write, such as the token that ends a turn.
    """

    renderer: Any
    template: str | None
    image_token: str
    parts: bool = True
    system: bool = True
    reserved: tuple[str, ...] = ()
    spelled: bool = False

    def render(self, messages: Sequence[Message], *, answer: bool = True) -> str:
        """The prompt's text, one `image_token` a picture; with `answer`, ready for the model to go on.

        Raises SettingInvalid for an order of messages that the model's own template refuses.
        """
        turns = [self._turn(message) for message in alternating(messages, keep_system=self.system)]
        try:
            text: str = self.renderer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=answer, chat_template=self.template
            )
        except TemplateError as error:
            raise SettingInvalid(
                name=Text("engine.conversation", "This conversation"),
                value=Text("cli.used", "used"),
                detail=Text(
                    "engine.template_refuses", "The model's chat template refuses this order of messages."
                ),
                suggestion=Text(
                    "engine.template_remedy",
                    "Begin with a question, at most with a system message before it, and let questions and "
                    "answers take turns.",
                ),
            ) from error
        return text

    def _turn(self, message: Message) -> dict[str, Any]:
        parts = [
            self._typed(part) for part in message.parts if self.image_token or isinstance(part, TextPart)
        ]
        if self.parts:
            return {"role": message.role.value, "content": parts}
        lines = [part.get("text", self.image_token) for part in parts]
        return {"role": message.role.value, "content": "\n".join(lines)}

    def _typed(self, part: Part) -> dict[str, str]:
        if isinstance(part, ImagePart):
            return {"type": "text", "text": self.image_token} if self.spelled else {"type": "image"}
        text = plain_text(part.text, (*self.reserved, self.image_token))
        return {"type": "text", "text": text}


def choose_template(processor: Any, tokenizer: Any, image_token: str) -> ChatTemplate:
    """Find out by trying what the model's own template can render; fall back to the Vicuna format.

    A template is taken only when it writes every text once and one placeholder a picture.
    """
    own = getattr(processor, "chat_template", None)
    renderer = processor if own else tokenizer
    candidates = [ChatTemplate(renderer, None, image_token, parts=parts) for parts in (True, False)]
    if not own and not getattr(tokenizer, "chat_template", None):
        candidates = []
    candidates.append(ChatTemplate(tokenizer, VICUNA, image_token, parts=False))
    reserved = tuple(token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return first_that_works(candidates, reserved)


def first_that_works(candidates: Sequence[ChatTemplate], reserved: tuple[str, ...]) -> ChatTemplate:
    """The first of `candidates` that writes every text once and one placeholder a picture, else the last."""
    for candidate in candidates:
        for system in (True, False):
            tried = replace(candidate, system=system, reserved=reserved)
            if _works(tried):
                return tried
    return replace(candidates[-1], reserved=reserved)


def end_of_turn(template: ChatTemplate, tokenizer: Any) -> int | None:
    """The special token that the template writes after an answer, None when there is none."""
    said = [
        Message(Role.USER, (TextPart("a"),)),
        Message(Role.ASSISTANT, (TextPart(_PROBE),)),
        Message(Role.USER, (TextPart("b"),)),
    ]
    after = template.render(said).partition(_PROBE)[2].lstrip()
    ids = tokenizer.encode(after, add_special_tokens=False)
    starts_special = bool(ids) and ids[0] in tokenizer.added_tokens_decoder
    return int(ids[0]) if starts_special else None


def plain_text(text: str, reserved: Sequence[str]) -> str:
    """Text that no tokenizer takes for markup: a reserved word that a person typed is split by a space.

    Halves of surrogate pairs, which JSON and browsers let through, become U+FFFD: they are no text.
    """
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    words = sorted((word for word in reserved if len(word) > 1), key=len, reverse=True)
    if not words:
        return text
    return re.sub("|".join(map(re.escape, words)), lambda found: f"{found[0][0]} {found[0][1:]}", text)


def _works(template: ChatTemplate) -> bool:
    picture: tuple[Part, ...] = (ImagePart(Path(), "", 0, 0),) if template.image_token else ()
    texts = [f"{_PROBE}{name}" for name in ("system", "first", "answer", "second")]
    system, first, answer, second = (TextPart(text) for text in texts)
    messages = [
        Message(Role.SYSTEM, (system,)),
        Message(Role.USER, (*picture, first)),
        Message(Role.ASSISTANT, (answer,)),
        Message(Role.USER, (second,)),
    ]
    try:
        text = template.render(messages)
    except (SettingInvalid, TypeError, KeyError, ValueError, AttributeError):
        return False
    pictures = text.count(template.image_token) if template.image_token else 0
    return (
        all(text.count(probe) == 1 for probe in texts) and pictures == len(picture) and "'type'" not in text
    )


def alternating(messages: Sequence[Message], *, keep_system: bool) -> list[Message]:
    """Join turns of the same speaker, which an interrupted chat leaves; move the system text if need be."""
    turns: list[Message] = []
    rules: list[Part] = []
    for message in messages:
        parts = message.parts
        if message.role is Role.SYSTEM and not keep_system:
            rules += parts
            continue
        if message.role is Role.USER and rules:
            texts = [part for part in parts if isinstance(part, TextPart)]
            first = parts.index(texts[0]) if texts else len(parts)
            parts = (*parts[:first], *rules, *parts[first:])
            rules = []
        if turns and turns[-1].role is message.role:
            parts = turns.pop().parts + parts
        turns.append(Message(message.role, _merge_text(parts)))
    return turns


def _merge_text(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Join neighbouring texts by an empty line: a template may write them without anything between."""
    merged: list[Part] = []
    for part in parts:
        if merged and isinstance(part, TextPart) and isinstance(merged[-1], TextPart):
            merged[-1] = TextPart(f"{merged[-1].text}\n\n{part.text}")
        else:
            merged.append(part)
    return tuple(merged)
