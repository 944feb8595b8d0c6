"""What a child process was doing, as words for errors."""

from __future__ import annotations

from backends.messages import Progress
from backends.text import Text
from backends.worker.protocol import Chat, Command, Load, Move

STARTING = Text("worker.stage.starting", "starting")
IDLE = Text("worker.stage.idle", "idle")
LOADING = Text("worker.stage.loading", "loading")
CONVERTING = Text("worker.stage.converting", "converting the model")
MOVING = Text("worker.stage.moving", "rearranging the model")
ANSWERING = Text("worker.stage.answering", "answering")
PREPARING = Text("worker.stage.preparing", "preparing a picture")


def stage_of(command: Command) -> Text:
    """The words for `command`."""
    match command:
        case Load():
            return LOADING
        case Move():
            return MOVING
        case Chat():
            return ANSWERING
        case _:
            return PREPARING


def stage_now(stage: Text, progress: Progress) -> Text:
    """The words for what `stage` is at: a load may convert first."""
    if stage.code not in (LOADING.code, CONVERTING.code):
        return stage
    return CONVERTING if progress.stage == "converting" else LOADING
