"""What an engine can be doing, as sentences have it: "memory ran out while ..."."""

from __future__ import annotations

from backends.text import Text

ANSWERING = Text("worker.stage.answering", "answering")
LOADING = Text("worker.stage.loading", "loading the model")
MOVING = Text("engine.moving", "moving the model")
READING_AHEAD = Text("engine.reading_ahead", "reading ahead")
