"""Pure: a conversation -> the message list that Gradio's Chatbot shows."""

from __future__ import annotations

from typing import Any

from backends.messages import TextPart
from ui.i18n import Translator
from ui.web.chat_flow import Conversation, Turn
from ui.web.format import progress_text, stats_line
from ui.web.html import esc
from ui.web.markdown import safe_markdown

# Each turn is two messages of the Chatbot: the question and the answer.
MESSAGES_PER_TURN = 2


def turn_of(index: int) -> int:
    """The turn that message `index` of the Chatbot belongs to."""
    return index // MESSAGES_PER_TURN


def to_chatbot(turns: Conversation, say: Translator) -> list[dict[str, Any]]:
    """Every turn as a user's and an assistant's message."""
    shown: list[dict[str, Any]] = []
    for turn in turns:
        shown += ({"role": "user", "content": _question(turn)}, {"role": "assistant", "content": _answer(turn, say)})
    return shown


def _question(turn: Turn) -> list[Any]:
    content: list[Any] = []
    for number, image in enumerate(turn.question.images, start=1):
        alt = f"{number}: {image.width} x {image.height}"
        content.append({"path": str(image.path), "alt_text": alt})
    text = "\n".join(part.text for part in turn.question.parts if isinstance(part, TextPart))
    if text:
        content.append(safe_markdown(text))
    return content


def _answer(turn: Turn, say: Translator) -> list[str]:
    text = safe_markdown(turn.answer)
    line = _line_below(turn, say)
    return [f'{text}\n\n<span class="sn-stats">{esc(line)}</span>' if line else text]


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
    return progress_text(turn.stage, say) + " …" if turn.stage else say("chat.thinking")
