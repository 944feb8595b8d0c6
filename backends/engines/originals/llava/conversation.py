"""A conversation as the text that LLaVA's formats make of it, with the places of its pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from backends.engines.originals.llava.tokenizer import Markup
from backends.engines.template import alternating
from backends.messages import ImagePart, Message, Role, TextPart
from backends.models.originals.templates import Style, Template

Piece = str | Markup | ImagePart
# How the authors' code writes a picture; a person may say with it where in a text a picture belongs.
MARK = "<image>"
_CLOSING = ".,;:!?)]}\u3002\uff0c\uff1b\uff1a\uff01\uff1f"


def written(template: Template, messages: Sequence[Message]) -> list[Piece]:
    """`messages` in the format of `template`, ready for the model's answer."""
    said = [message.text for message in messages if message.role is Role.SYSTEM]
    system: Piece = "\n\n".join(text for text in said if text.strip()) or Markup(template.system)
    spoken = [message for message in messages if message.role is not Role.SYSTEM]
    turns = [(turn.role is Role.ASSISTANT, _in_place(turn)) for turn in alternating(spoken, keep_system=True)]
    match template.style:
        case Style.NAMED:
            return _named(template, system, turns)
        case Style.INSTRUCT:
            return _instruct(template, system, turns)
        case Style.MARKED:
            return _marked(template, system, turns)
        case _:
            return _bare(template, system, turns)


def _named(template: Template, system: Piece, turns: Sequence[tuple[bool, list[Piece]]]) -> list[Piece]:
    pieces: list[Piece] = [system, Markup(template.after[0])]
    for answer, content in turns:
        pieces += [Markup(f"{template.roles[answer]}: "), *content, Markup(template.after[answer])]
    return [*pieces, Markup(f"{template.roles[True]}:")]


def _instruct(template: Template, system: Piece, turns: Sequence[tuple[bool, list[Piece]]]) -> list[Piece]:
    pieces: list[Piece] = []
    for number, (answer, content) in enumerate(turns):
        if answer:
            pieces += [Markup(" "), *content, Markup(f" {template.after[True]}")]
            continue
        # What would stand before the first turn is the token that begins every text.
        pieces.append(Markup(f"{template.after[False] if number else ''}[INST] "))
        if number == 0 and system not in ("", Markup("")):
            pieces += [Markup("<<SYS>>\n"), system, Markup("\n<</SYS>>\n\n")]
        pieces += [*content, Markup(" [/INST]")]
    return pieces


def _marked(template: Template, system: Piece, turns: Sequence[tuple[bool, list[Piece]]]) -> list[Piece]:
    pieces: list[Piece] = [Markup("<|im_start|>system\n"), system, Markup(template.after[0])]
    for answer, content in turns:
        pieces += [Markup(template.roles[answer]), *content, Markup(template.after[answer])]
    return [*pieces, Markup(template.roles[True])]


def _bare(template: Template, system: Piece, turns: Sequence[tuple[bool, list[Piece]]]) -> list[Piece]:
    pieces: list[Piece] = [system, Markup("\n")] if system not in ("", Markup("")) else []
    for answer, content in turns:
        pieces += [*content, Markup(template.after[answer])]
    return pieces


def _in_place(message: Message) -> list[Piece]:
    """A turn's texts and pictures, with the line breaks around pictures that models were trained on."""
    parts: list[str | ImagePart] = [
        part.text if isinstance(part, TextPart) else part for part in message.parts if part != TextPart("")
    ]
    pictures = list(message.images)
    text = "".join(part for part in parts if isinstance(part, str))
    if pictures and text.count(MARK) == len(pictures):
        # The text itself says where: whatever order the parts came in.
        return list(_marked_places(text, pictures))
    pieces: list[Piece] = []
    for number, part in enumerate(parts):
        pieces.append(part)
        if _needs_break(part, parts[number + 1 :]):
            pieces.append("\n")
    return pieces


def _marked_places(text: str, pictures: Sequence[ImagePart]) -> Iterator[Piece]:
    first, *rest = text.split(MARK)
    yield first
    for picture, following in zip(pictures, rest, strict=True):
        yield picture
        yield following


def _needs_break(part: str | ImagePart, rest: Sequence[str | ImagePart]) -> bool:
    """Whether a line break belongs between a picture and its neighbour, where the person wrote no space."""
    after = rest[0] if rest else None
    if isinstance(part, str):
        return isinstance(after, ImagePart) and not part[-1].isspace()
    if isinstance(after, str):
        return not (after[0].isspace() or after[0] in _CLOSING)
    following = next((one for one in rest if isinstance(one, str)), "")
    return not following[:1].isspace()
