"""Pure: a conversation -> HTML. Every word of people and models is escaped or rendered safely here."""

from __future__ import annotations

from collections.abc import Sequence

from backends.messages import ImagePart, TextPart
from ui.i18n import Translator
from ui.loading import progress_text
from ui.web.boxes import marked_html, numbers, picture_before
from ui.web.chat_flow import Conversation, Turn
from ui.web.examples import Example
from ui.web.format import stats_line
from ui.web.html import esc, file_url
from ui.web.markdown import to_html

_ICONS = {
    "copy": '<path d="M9 9h11v11H9z"/><path d="M5 15H4V4h11v1"/>',
    "edit": '<path d="M4 20l1-4L16.5 4.5l3 3L8 19z"/>',
    "regenerate": '<path d="M20 11a8 8 0 1 0-2.3 6.3"/><path d="M20 5v6h-6"/>',
    "delete": '<path d="M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13"/>',
}


def past_html(turns: Conversation, say: Translator, *, busy: bool) -> str:
    """All turns but the last, which `live_html` shows."""
    return "".join(
        _turn(turn, picture_before(turns, index), say, last=False, busy=busy)
        for index, turn in enumerate(turns[:-1])
    )


def live_html(turns: Conversation, examples: Sequence[Example], say: Translator, *, busy: bool) -> str:
    """The last turn, redrawn while it streams; an empty conversation shows how to begin."""
    if not turns:
        return _welcome(examples, say)
    return _turn(turns[-1], picture_before(turns, len(turns) - 1), say, last=True, busy=busy)


def _welcome(examples: Sequence[Example], say: Translator) -> str:
    """How to begin, in words for models that see and for those that read only: the style sheet chooses."""
    cards = "".join(
        f'<button type="button" class="sn-example" data-act="example" data-turn="{index}">'
        f'<img src="{esc(file_url(example.picture))}" alt="" width="200" height="150">'
        f"<span><b>{esc(example.label[say.language])}</b>{esc(example.question)}</span></button>"
        for index, example in enumerate(examples)
    )
    key = "chat.empty_text" if examples else "chat.empty_text_plain"
    return (
        f'<div class="sn-welcome"><div class="sn-seeing"><h2>{esc(say("chat.empty_title"))}</h2>'
        f'<p>{esc(say(key))}</p><div class="sn-examples">{cards}</div></div>'
        '<div class="sn-reading"><div class="sn-title" role="heading" aria-level="2">'
        f"{esc(say('chat.empty_title_text'))}</div><p>{esc(say('chat.empty_text_text'))}</p></div></div>"
    )


def _turn(turn: Turn, seen: ImagePart | None, say: Translator, *, last: bool, busy: bool) -> str:
    running = turn.status in ("waiting", "answering")
    return (
        f'<article class="sn-turn" data-turn="{turn.ident}" aria-busy="{str(running).lower()}">'
        f"{_question(turn, say, busy=busy)}{_answer(turn, seen, say, last=last, busy=busy)}</article>"
    )


def _question(turn: Turn, say: Translator, *, busy: bool) -> str:
    pictures = "".join(_picture(image, number, say) for number, image in enumerate(turn.question.images, 1))
    text = "\n".join(part.text for part in turn.question.parts if isinstance(part, TextPart))
    words = {"data-text": text, "data-save": say("chat.save"), "data-cancel": say("chat.cancel")}
    actions = "" if busy else (
        _button("edit", say("chat.edit"), words) + _button("delete", say("chat.delete"), {})
    )  # fmt: skip
    return (
        f'<div class="sn-question"><span class="sn-who">{esc(say("chat.you"))}</span>'
        f'<div class="sn-pictures">{pictures}</div><div class="sn-text" dir="auto">{esc(text)}</div>'
        f'<div class="sn-actions">{actions}</div></div>'
    )


def _picture(image: ImagePart, number: int, say: Translator) -> str:
    alt = say("chat.picture", number=number, width=image.width, height=image.height)
    url = esc(file_url(image.path))
    # Width and height keep the page from jumping when the picture arrives.
    scale = min(220 / image.height, 320 / image.width, 1)
    size = f'width="{max(round(image.width * scale), 1)}" height="{max(round(image.height * scale), 1)}"'
    return f'<a href="{url}" target="_blank" rel="noopener"><img src="{url}" alt="{esc(alt)}" {size}></a>'


def _answer(turn: Turn, seen: ImagePart | None, say: Translator, *, last: bool, busy: bool) -> str:
    actions = ""
    if not busy:
        copy = {"data-text": turn.answer, "data-done": say("chat.copied")}
        actions = _button("copy", say("chat.copy"), copy) if turn.answer else ""
        actions += _button("regenerate", say("chat.regenerate"), {}) if last else ""
    body = _said(turn, seen, say) if turn.answer else ""
    line = _line_below(turn, say)
    waiting = " sn-waiting" if turn.status == "waiting" else ""
    below = f'<span class="sn-stats{waiting}">{esc(line)}</span>' if line else ""
    return (
        f'<div class="sn-answer"><span class="sn-who">Snug</span>{body}'
        f'<div class="sn-below">{below}<span class="sn-actions">{actions}</span></div></div>'
    )


def _said(turn: Turn, seen: ImagePart | None, say: Translator) -> str:
    """The answer; once it is whole, its boxes are numbered, and drawn on the picture that it is about."""
    if seen is None or turn.status != "done":
        return f'<div class="sn-markdown" dir="auto">{to_html(turn.answer)}</div>'
    text = to_html(turn.answer, numbers(turn.answer))
    return f'<div class="sn-markdown" dir="auto">{text}</div>{marked_html(turn.answer, seen, say)}'


def _line_below(turn: Turn, say: Translator) -> str:
    if turn.status == "failed" and turn.error is not None:
        return say.text(turn.error.what_text)
    if turn.done is not None:
        return stats_line(turn.done, say)
    if turn.status == "done":
        return say("stats.cancelled")
    if turn.answer:
        return ""
    if turn.position:
        return say("chat.queued", position=turn.position)
    return say("chat.stage", stage=progress_text(turn.stage, say)) if turn.stage else say("chat.thinking")


def _button(action: str, label: str, data: dict[str, str]) -> str:
    extra = "".join(f' {name}="{esc(value)}"' for name, value in data.items())
    return (
        f'<button type="button" class="sn-icon" data-act="{action}" title="{esc(label)}" '
        f'aria-label="{esc(label)}"{extra}><svg viewBox="0 0 24 24" aria-hidden="true">{_ICONS[action]}</svg>'
        "</button>"
    )
