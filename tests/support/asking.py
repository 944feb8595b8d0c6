"""Questions asked by several people at once, and what they saw."""

from __future__ import annotations

import threading
from collections.abc import Callable

from backends.errors import SnugError
from backends.messages import Done, Event, Queued, SamplingParams, TextDelta
from backends.service import Service
from tests.support.processes import ask

GREEDY = SamplingParams(temperature=0.0, max_tokens=4000)
PATIENCE_S = 60.0


class Asker:
    """Asks on a thread of its own and remembers every event, in the order of one shared diary."""

    def __init__(self, service: Service, session: str, text: str, diary: list[str] | None = None) -> None:
        self.events: list[Event] = []
        self.error: SnugError | None = None
        self._session = session
        self._diary = diary if diary is not None else []
        self._changed = threading.Condition()
        self._over = False
        self._stream = service.chat(session, ask(text), GREEDY)
        self._thread = threading.Thread(target=self._run, name=f"asker-{session}")
        self._thread.start()

    def _run(self) -> None:
        try:
            for event in self._stream:
                with self._changed:
                    self.events.append(event)
                    if isinstance(event, Done):
                        self._diary.append(self._session)
                    self._changed.notify_all()
        except SnugError as error:
            self.error = error
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def wait_for(self, what: Callable[[list[Event]], bool]) -> None:
        """Wait until `what` holds for the events seen so far."""
        with self._changed:
            assert self._changed.wait_for(lambda: what(self.events) or self._over, PATIENCE_S)
            assert what(self.events), (self.events, self.error)

    def wait_for_text(self) -> None:
        """Wait for the first piece of the answer."""
        self.wait_for(lambda events: any(isinstance(event, TextDelta) for event in events))

    def wait_for_position(self, position: int) -> None:
        """Wait until the queue told this place."""
        self.wait_for(lambda events: Queued(position) in events)

    def finish(self) -> list[Event]:
        """Wait for the end and return everything seen."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return self.events

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def done(self) -> Done:
        """The answer's last event."""
        last = self.finish()[-1]
        assert isinstance(last, Done)
        return last

    @property
    def positions(self) -> list[int]:
        """The places in the queue, as told."""
        return [event.position for event in self.events if isinstance(event, Queued)]
