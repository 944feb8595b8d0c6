"""A tab whose plans are real, on a pretended machine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from backends.placement.types import PlanRequest
from backends.service import Service
from tests.support import checkpoints, gguf_files, machines
from tests.support.fake_service import fake_settings
from ui.web.context import Context, Loader
from ui.web.panels import custom as custom_panel
from ui.web.planning import make_plan
from ui.web.redrawing import custom_updates
from ui.web.sessions import Session

TWO = machines.machine(machines.gpu(0), machines.gpu(1), ram=32)
HALVES = "* = cuda:0\nmodel.language_model.layers.16-31 = cuda:1"


class Tab:
    """A tab over the real service on a pretended machine; nothing is ever loaded."""

    def __init__(self, home: Path) -> None:
        self.llava = str(checkpoints.llava_15_7b(home / "llava"))
        self.qwen = str(checkpoints.qwen25_vl_7b(home / "qwen"))
        self.text = str(checkpoints.llama(home / "text"))
        self.gguf = str(gguf_files.qwen25_vl_7b(home / "gguf"))
        settings = fake_settings(home)
        self.service = Service(settings, preload=False)
        self.service._machine.snapshot = lambda *_, **__: TWO  # type: ignore[method-assign]
        self.service._machine.usable = lambda *_: TWO  # type: ignore[method-assign]
        self.context = Context(self.service, settings, Loader(self.service), PlanRequest(self.llava))
        request: Any = SimpleNamespace(session_hash="one")
        self.session: Session = self.context.session(request)

    @property
    def request(self) -> PlanRequest:
        assert self.session.request is not None
        return self.session.request

    def draw(self, *touched: str) -> dict[str, Any]:
        """What the page is sent now, by component."""
        where = self.session.elsewhere.hardware if self.session.elsewhere else None
        plan = make_plan(self.context, self.request, where)
        sent = custom_updates(self.context, self.session, plan, touched)
        found = dict(zip(custom_panel.NAMES, sent, strict=True))
        return {name: update for name, update in found.items() if len(update) > 1}
