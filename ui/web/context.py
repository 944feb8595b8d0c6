"""What every panel's handlers need: the service, the tabs, and the thread that loads models."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import gradio as gr

from backends.errors import Cancelled, SnugError
from backends.messages import Progress
from backends.placement.types import Plan, PlanRequest
from backends.reports import UnloadReport
from backends.service import Service
from backends.settings import Settings
from ui.i18n import Translator
from ui.web.examples import Example
from ui.web.sessions import Session, Sessions


class Loader:
    """Loads in the background, so that the page answers meanwhile; keeps what went wrong."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._thread: threading.Thread | None = None
        self.error: SnugError | None = None
        self.unloaded: UnloadReport | None = None

    def load(self, plan: Plan) -> None:
        """Begin to load `plan`; `service.state()` tells how far it is, from now on.

        A question that is asked after this returns waits for the new model, and never meets the old one.
        """
        self._give_way()
        try:
            steps = self._service.load(plan)
        except SnugError as error:
            self.error = error
        else:
            self._follow(lambda: steps)

    def restart(self) -> None:
        """Begin to load the last plan again."""
        self._begin(self._service.restart)

    def start_with(self, request: PlanRequest) -> None:
        """Plan and load in the background: what the page opens with."""
        self._begin(lambda: self._service.load(self._service.plan(request)))

    def cancel(self) -> None:
        """Stop a running load."""
        self._service.cancel_load()

    def unload(self) -> None:
        """Give the model's memory back; `unloaded` says how much."""
        self.error = None
        try:
            self.unloaded = self._service.unload()
        except SnugError as error:
            self.error = error

    @property
    def busy(self) -> bool:
        """Whether a load was begun that has not ended."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self) -> None:
        """Return when no load is under way any more."""
        if self._thread is not None:
            self._thread.join()

    def _begin(self, steps: Callable[[], Iterator[Progress]]) -> None:
        self._give_way()
        self._follow(steps)

    def _give_way(self) -> None:
        if self.busy:
            self._service.cancel_load()
        self.error, self.unloaded = None, None

    def _follow(self, steps: Callable[[], Iterator[Progress]]) -> None:
        self._thread = threading.Thread(target=self._run, args=(steps,), name="load", daemon=True)
        self._thread.start()

    def _run(self, steps: Callable[[], Iterator[Progress]]) -> None:
        try:
            for _ in steps():
                pass
        except Cancelled:
            pass
        except SnugError as error:
            self.error = error
        else:
            # Beside the load's own thread: the model is ready, and must look so, while this measures.
            threading.Thread(target=self._service.calibrate, name="calibrate", daemon=True).start()


@dataclass(frozen=True, slots=True)
class Context:
    """Shared by all panels of one page."""

    service: Service
    settings: Settings
    loader: Loader
    start: PlanRequest
    examples: tuple[Example, ...] = ()
    sessions: Sessions = field(default_factory=Sessions)

    def session(self, request: gr.Request) -> Session:
        """The tab that a request comes from."""
        session = self.sessions.of(request.session_hash)
        if session.request is None:
            session.request = self.start
        return session


def say_for(session: Session) -> Translator:
    """The translator of a tab."""
    return Translator(session.language)
