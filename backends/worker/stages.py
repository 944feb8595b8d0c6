"""What a child process was doing, as words for errors."""

from __future__ import annotations

from backends.text import Text
from backends.worker.protocol import Chat, Command, Load

STARTING = Text("worker.stage.starting", "starting")
IDLE = Text("worker.stage.idle", "idle")
LOADING = Text("worker.stage.loading", "loading")
ANSWERING = Text("worker.stage.answering", "answering")
PREPARING = Text("worker.stage.preparing", "preparing a picture")


def stage_of(command: Command) -> Text:
    """The words for `command`."""
    match command:
        case Load():
            return LOADING
        case Chat():
            return ANSWERING
        case _:
            return PREPARING
