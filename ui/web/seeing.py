"""Whether the model that answers looks at pictures, and what a person is told where it does not."""

from __future__ import annotations

from backends.errors import SnugError
from ui.i18n import Translator
from ui.web.context import Context
from ui.web.html import esc
from ui.web.sessions import Session


def sees(context: Context, session: Session) -> bool:
    """Whether the loaded model, or else the one that the tab asks for, looks at pictures; if unknown, yes."""
    state = context.service.state()
    if state.status == "ready" and state.report is not None and not state.report.supports_images:
        return False  # its files may have got eyes since
    answering = state.plan is not None and state.status in ("ready", "loading")
    asked = state.plan.request if answering and state.plan is not None else session.request or context.start
    try:
        return context.service.inspect(asked.model, asked.overrides).vision is not None
    except SnugError:
        return True


def remark(session: Session, say: Translator, *, seeing: bool) -> str:
    """The line above the message box; the style sheet hides what concerns pictures while it stands there.

    It also brings the words for the empty message box, which the page's script puts there.
    """
    if seeing:
        return f'<span hidden data-placeholder="{esc(say("chat.placeholder"))}"></span>'
    key = "chat.text_only"
    if session.draft_images:
        key = "chat.text_only_draft"
    elif any(turn.question.images for turn in session.turns):
        key = "chat.text_only_before"
    words = esc(say("chat.placeholder_text"))
    return f'<p class="sn-note sn-text-only" role="status" data-placeholder="{words}">{esc(say(key))}</p>'
