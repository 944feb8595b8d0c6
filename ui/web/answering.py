"""Asking the service on behalf of a tab: pictures, drafts, and the answer as it comes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from backends.errors import InternalError, NotLoaded, OutOfMemory, SnugError
from backends.messages import Event, ImagePart, Queued, SamplingParams, TextDelta
from backends.text import Text
from ui.web import chat_flow, climbing
from ui.web.context import Context
from ui.web.seeing import sees
from ui.web.sessions import Session

_LOG = logging.getLogger(__name__)
# The page is redrawn at most this often while an answer streams: faster than an eye tells words apart.
_REDRAW_S = 0.05
_LOADER_POLL_S = 0.05


def import_pictures(
    context: Context, session: Session, paths: Sequence[str]
) -> tuple[list[str], SnugError | None]:
    """Read the message box's pictures once each; returns the paths that could be read and the last error."""
    kept: dict[str, ImagePart] = {}
    error: SnugError | None = None
    for path in paths:
        known = session.draft_images.get(path)
        try:
            kept[path] = known or context.service.import_image(Path(path), Path(path).name)
        except SnugError as problem:
            error = problem
    session.draft_images = kept
    return list(kept), error


def answer(
    context: Context, session: Session, system: str | None, sampling: Callable[[], SamplingParams]
) -> Iterator[None]:
    """Answer the last question, yielding whenever the page should be redrawn.

    A question that comes while the model loads is answered after that; `session.stopping` ends either.
    `sampling` may raise, as anything that is asked of the service may: the question then stays, unanswered.
    """
    drawn = -_REDRAW_S
    try:
        _wait_for_loader(context, session)
        if session.stopping.is_set():
            session.turns = chat_flow.stop_waiting(session.turns)
            return
        messages = chat_flow.to_messages(session.turns, system)
        for event in context.service.chat(session.ident, messages, sampling()):
            if session.stopping.is_set():
                # Said in the moment before the service knew of the question.
                context.service.cancel(session.ident)
            session.turns = _advanced(context, session, event)
            if not isinstance(event, TextDelta):
                yield
            elif time.monotonic() - drawn >= _REDRAW_S:
                drawn = time.monotonic()
                yield
        with session.deciding:
            climbing.answered(session)
    except NotLoaded as error:
        # When the load failed, why it failed says more than that nothing is loaded.
        _fail(session, context.loader.error or error)
    except OutOfMemory as error:
        with session.deciding:
            climbing.failed(context, session, error)
            _fail(session, error)
    except SnugError as error:
        with session.deciding:
            climbing.refused(context, session, error)
            _fail(session, error)
    except Exception as error:  # noqa: BLE001 - the last line of defence
        # A mistake of ours must not leave the tab waiting for ever.
        _LOG.exception("an answer broke off")
        kind = Text.of("ui.unexpected", "An unexpected {kind} ended the answer.", kind=type(error).__name__)
        _fail(session, InternalError(detail=kind, log=str(context.settings.logs)))


def _advanced(context: Context, session: Session, event: Event) -> chat_flow.Conversation:
    turns = chat_flow.advance(session.turns, event)
    if isinstance(event, Queued) or turns[-1].by is not None:
        return turns
    # From its first sign of life on: right after its end, the model may be moved.
    state = context.service.state()
    return chat_flow.answered_by(turns, state.report if state.status == "ready" else None)


def _fail(session: Session, error: SnugError) -> None:
    session.turns = chat_flow.fail(session.turns, error)
    session.error = error


def _wait_for_loader(context: Context, session: Session) -> None:
    """A load that was begun a moment ago is not yet the service's to wait for."""
    while context.loader.busy and context.service.state().status in ("empty", "crashed"):
        if session.stopping.wait(_LOADER_POLL_S):
            return


def prime(context: Context, session: Session, system: str | None) -> None:
    """Let the model look at the draft's pictures while the person types; stop when there are none to see."""
    if not session.draft_images or not sees(context, session):
        context.service.cancel_prime(session.ident)
    elif context.service.state().status in ("ready", "loading") and not chat_flow.waiting(session.turns):
        messages = chat_flow.primer(session.turns, tuple(session.draft_images.values()), system)
        context.service.prime(session.ident, messages)
