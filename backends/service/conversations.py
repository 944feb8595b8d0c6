"""Who is answered when: the queue of questions, and drafts that are prepared while nobody asks."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

from backends.errors import Cancelled, SnugError
from backends.messages import Done, Event, ImagePart, Message, Queued, SamplingParams, Timings, Usage
from backends.service.comparing import Answer, Comparison
from backends.service.host import ModelHost
from backends.service.state import ModelState
from backends.worker.task import TICK_S, Task
from backends.worker.turns import Turns

LOG = logging.getLogger("snug.service")

_NOTHING_SAID = Done("cancelled", Usage(0, 0, 0), Timings(0.0, 0.0, 0.0), ())


@dataclass(slots=True)
class _Request:
    """A question in the queue; `loaded` is the model's state when its answer was begun."""

    session: str
    messages: tuple[Message, ...]
    sampling: SamplingParams
    cancelled: bool = False
    task: Task | None = None
    loaded: ModelState = field(default_factory=ModelState)


@dataclass(frozen=True, slots=True)
class _Priming:
    session: str
    messages: tuple[Message, ...]
    task: Task


class Conversations:
    """Serves one question at a time, fairly; prepares drafts in the gaps. Guarded by `host.changed`."""

    def __init__(self, host: ModelHost, comparison: Comparison) -> None:
        self._host = host
        self._comparison = comparison
        self._changed = host.changed
        self._turns = Turns()
        self._requests: dict[int, _Request] = {}
        self._drafts: dict[str, tuple[Message, ...]] = {}
        self._priming: _Priming | None = None
        host.on_change = self._status_changed

    @property
    def busy(self) -> bool:
        """Whether a question is being answered or is about to be."""
        with self._changed:
            return self._turns.busy

    @property
    def waiting(self) -> int:
        """How many questions stand behind the one that is answered."""
        with self._changed:
            return self._turns.waiting

    def chat(self, session: str, messages: Sequence[Message], sampling: SamplingParams) -> Iterator[Event]:
        """Queue, then stream the answer; see `Service.chat`."""
        request = _Request(session, tuple(messages), sampling)
        ticket = self._join(request)
        try:
            task = yield from self._wait_for_turn(ticket, request)
            if task is None:
                yield _NOTHING_SAID
                return
            try:
                yield from self._followed(request, task)
            except Cancelled:
                yield _NOTHING_SAID
        finally:
            self._leave(ticket, request)

    def _followed(self, request: _Request, task: Task) -> Iterator[Event]:
        """Give the answer's events; its memory is compared with the plan before the last one."""
        loaded = request.loaded
        plan, report, pid = loaded.plan, loaded.report, loaded.worker_pid
        try:
            for event in task:
                if isinstance(event, Done) and plan and report and pid:
                    answer = Answer(request.session, request.messages, event, plan, report, pid, task.memory)
                    if (measurement := self._comparison.answered(answer)) is not None:
                        self._host.measured(report, measurement)
                yield event
        except SnugError as error:
            if plan:
                self._host.on_failure(plan, error)
            raise

    def cancel(self, session: str) -> None:
        """Stop the session's questions, answered or waiting."""
        with self._changed:
            for ticket in self._turns.tickets(session):
                request = self._requests[ticket]
                request.cancelled = True
                if request.task is not None:
                    request.task.cancel()
            self._changed.notify_all()

    def prime(self, session: str, messages: Sequence[Message]) -> None:
        """Prepare a draft as soon as nobody asks; the session's newest replaces the one before."""
        draft = tuple(messages)
        if not draft:
            return
        with self._changed:
            running = self._priming
            if running is not None and running.session == session and not running.task.cancelled:
                if _fixed_part(running.messages) == _fixed_part(draft):
                    return  # only the text that is still being typed differs
                running.task.cancel()
            self._drafts[session] = draft
            self._prime_next()

    def cancel_prime(self, session: str) -> None:
        """Forget the session's draft."""
        with self._changed:
            self._drafts.pop(session, None)
            if self._priming is not None and self._priming.session == session:
                self._priming.task.cancel()

    def _join(self, request: _Request) -> int:
        with self._changed:
            ticket = self._turns.join(request.session)
            self._requests[ticket] = request
            self._drafts.pop(request.session, None)
            if self._priming is not None:
                self._priming.task.cancel()
            return ticket

    def _leave(self, ticket: int, request: _Request) -> None:
        with self._changed:
            if request.task is not None:
                request.task.cancel()
            self._turns.leave(ticket)
            del self._requests[ticket]
            self._changed.notify_all()
            self._prime_next()

    def _wait_for_turn(self, ticket: int, request: _Request) -> Generator[Event, None, Task | None]:
        """Tell the place in the queue until it is the request's turn; None when it was cancelled."""
        told: Event | None = None
        while True:
            with self._changed:
                while True:
                    if request.cancelled:
                        return None
                    if self._start(ticket, request):
                        return request.task
                    news = self._news(ticket)
                    if news is not None and news != told:
                        break
                    self._changed.wait(TICK_S)
            told = news
            yield news

    def _start(self, ticket: int, request: _Request) -> bool:
        """Send the question when it is its turn and a model is there; raises when there will be none."""
        worker = self._host.worker()
        if worker is None or self._turns.position(ticket) > 0:
            return False
        # Later it may have been moved: what the answer shows belongs to the plan that gave it.
        request.loaded = self._host.state
        request.task = worker.chat(request.session, request.messages, request.sampling)
        return True

    def _news(self, ticket: int) -> Event | None:
        position = self._turns.position(ticket)
        return Queued(position) if position else self._host.state.progress

    def _status_changed(self) -> None:
        """A model that is to be moved waits for no draft; the caller holds the lock."""
        if self._host.state.status == "loading" and self._priming is not None:
            self._priming.task.cancel()
        self._prime_next()

    def _prime_next(self) -> None:
        """Prepare the oldest draft if nothing else is to be done; the caller holds the lock."""
        idle = self._priming is None and not self._turns.busy
        if not idle or not self._drafts or self._host.state.status != "ready":
            return
        worker = self._host.worker()
        if worker is None:
            return
        session, draft = next(iter(self._drafts.items()))
        try:
            task = worker.prime(session, draft, on_end=self._primed)
        except SnugError:
            return  # the process is ending; whoever asks next is told why
        self._priming = _Priming(session, draft, task)
        self._changed.notify_all()

    def _primed(self, task: Task) -> None:
        """A draft is prepared, or gave way (called on the worker's listener)."""
        with self._changed:
            running, self._priming = self._priming, None
            assert running is not None
            if task.error is not None:
                LOG.info("Preparing a draft failed: %s", task.error)
            # A draft that gave way to somebody's question is prepared afterwards.
            gave_way = task.cancelled and task.error is None
            if not gave_way and self._drafts.get(running.session) is running.messages:
                del self._drafts[running.session]
            self._changed.notify_all()
            self._prime_next()


def _fixed_part(messages: tuple[Message, ...]) -> tuple[tuple[Message, ...], tuple[ImagePart, ...]]:
    """What of a draft can be prepared: everything but the last message's text."""
    return messages[:-1], messages[-1].images
