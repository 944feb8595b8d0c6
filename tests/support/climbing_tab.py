"""One tab of the page over the real service and a real worker, on a pretended machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from backends.hardware.types import HardwareSnapshot
from backends.placement.types import Credit, PlanRequest
from backends.service import Service
from backends.settings import load_settings
from ui.i18n import Translator
from ui.web import notices
from ui.web.context import Context, Loader
from ui.web.wiring_chat import Handlers
from ui.web.wiring_model import current_notice

HARDWARE = Path(__file__).resolve().parents[1] / "hardware"
LIVE = 99
PATIENCE_S = 60.0


class Tab:
    """One tab over the real service; models load in the background as on the page."""

    def __init__(self, home: Path, request: PlanRequest, hardware: HardwareSnapshot) -> None:
        settings = replace(load_settings({"SNUG_HOME": str(home)}), model_folders=())
        self.service = Service(settings, preload=False, engine="fake")
        self.service.calibrate = lambda: None  # type: ignore[method-assign]
        machine: Any = self.service._machine
        machine.snapshot = lambda *_args, **_more: hardware
        machine.usable = lambda *_args: hardware
        machine.credit = lambda *_args: Credit()
        self.loader = Loader(self.service)
        self.context = Context(self.service, settings, self.loader, request)
        self.handlers = Handlers(self.context, LIVE)
        self.request: Any = SimpleNamespace(session_hash="one")
        self.session = self.context.session(self.request)

    def load(self) -> None:
        self.loader.load(self.service.plan(self.session.request or self.context.start))
        self.wait(lambda: not self.loader.busy)

    def wait(self, what: Callable[[], bool]) -> None:
        """Give background threads time; nothing here depends on how much."""
        begun, pause = time.monotonic(), threading.Event()
        while not what():
            assert time.monotonic() - begun < PATIENCE_S
            pause.wait(0.01)

    def ask(self, text: str, *files: Path) -> None:
        self.handlers.submit({"text": text, "files": [str(file) for file in files]}, self.request)
        self.answer()

    def answer(self) -> None:
        list(self.handlers.stream(None, 0.2, 1, 64, "", request=self.request))

    def press(self) -> list[Any]:
        """The card's button; what it says about the message box, the model and the preset."""
        updates = self.handlers.act({"text": "a draft", "files": []}, self.request)[2:5]
        self.answer()
        self.wait(lambda: not self.loader.busy)
        return updates

    @property
    def card(self) -> notices.Notice | None:
        return current_notice(self.context, self.session)

    def says(self, language: Any = "en") -> str:
        assert self.card is not None
        return self.card.html(Translator(language)) + "|" + self.card.button(Translator(language))


Open = Callable[..., Tab]
