"""Events of the section on converted files: Clear, then Remove or Keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ui.web.context import Context
from ui.web.sessions import Session
from ui.web.wiring_model import Page, refresh


def ask(context: Context, session: Session) -> None:  # noqa: ARG001 - as the others
    """Clear was pressed: say what would go, and wait."""
    session.asking_to_clear, session.came_free = True, None


def remove(context: Context, session: Session) -> None:
    """The person means it."""
    with session.deciding:
        meant, session.asking_to_clear = session.asking_to_clear, False
    if meant:
        session.came_free = context.service.clear_converted()


def keep(context: Context, session: Session) -> None:  # noqa: ARG001 - as the others
    """The person does not."""
    session.asking_to_clear = False


def wire(page: Page, context: Context) -> None:
    """Attach the handlers."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}

    def on(button: gr.Button, act: Callable[[Context, Session], None]) -> None:
        def handle(request: gr.Request) -> list[Any]:
            session = context.session(request)
            act(context, session)
            return refresh(context, session)

        button.click(handle, None, page.live, **quiet)

    on(page.converted.clear, ask)
    on(page.converted.remove, remove)
    on(page.converted.keep, keep)
