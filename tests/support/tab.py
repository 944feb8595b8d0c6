"""One tab of the page over the in-memory service, and a conversation to begin with."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from backends.errors import (
    WorkerCrashed,
)
from backends.placement.types import PlanRequest
from tests.support.fake_service import FakeService, fake_settings
from ui.web import chat_flow
from ui.web.context import Context, Loader
from ui.web.examples import read_examples
from ui.web.wiring_chat import Handlers

LIVE = 12
CRASH = WorkerCrashed(stage="idle", detail="It was ended.")
ASKED = chat_flow.ask((), chat_flow.question("one", ()))


class Tab:
    """One tab of the page over the in-memory service."""

    def __init__(self, home: Path) -> None:
        settings = fake_settings(home)
        self.service = FakeService(settings)
        self.loader = Loader(self.service)  # type: ignore[arg-type]
        start = PlanRequest("starter")
        self.context = Context(self.service, settings, self.loader, start, read_examples(settings.examples))  # type: ignore[arg-type]
        self.handlers = Handlers(self.context, LIVE)
        self.request: Any = SimpleNamespace(session_hash="one")
        self.session = self.context.session(self.request)

    def load(self) -> None:
        for _ in self.service.load(self.service.plan(PlanRequest("starter"))):
            pass

    def ask(self, text: str, *files: Path) -> list[Any]:
        return self.handlers.submit({"text": text, "files": [str(file) for file in files]}, self.request)

    def stream(self, **kwargs: Any) -> list[Any]:
        values: dict[str, Any] = {
            "system": None,
            "temperature": 0.2,
            "top_p": 1,
            "max_tokens": 64,
            "seed": "",
        }
        return list(self.handlers.stream(**values | kwargs, request=self.request))

    def act(self, action: str, turn: int = 0, text: str = "") -> list[Any]:
        turns = self.session.turns
        ident = turns[turn].ident if action != "example" and 0 <= turn < len(turns) else str(turn)
        return self.press(action, ident, text)

    def press(self, action: str, ident: str, text: str = "") -> list[Any]:
        """What the page sends: the name of a turn, or the number of an example."""
        event: Any = SimpleNamespace(action=action, turn=ident, text=text)
        return self.handlers.turn_act(event, {"text": "", "files": []}, self.request)


def given(update: Any) -> dict[str, Any]:
    """What a handler sets of a component."""
    return dict(update.constructor_args)
