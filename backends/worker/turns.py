"""Whose turn it is: a fair queue among sessions, with the place in it. No threads in here, no clock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Waiting:
    ticket: int
    session: str
    round: int


class Turns:
    """First come first served among sessions; nobody's second request passes another's first.

    Every request belongs to a round: a session's first request to the round that is being served, each
    further one to the next. Requests are served by (round, arrival), one at a time, to the end.
    The caller holds a lock.
    """

    def __init__(self) -> None:
        self._queue: list[_Waiting] = []
        self._round = 0
        self._next = 0

    def join(self, session: str) -> int:
        """Queue a request and return its ticket."""
        last = max((one.round for one in self._queue if one.session == session), default=self._round - 1)
        entry = _Waiting(self._next, session, max(self._round, last + 1))
        self._next += 1
        serving = self._queue[:1]
        self._queue = serving + sorted([*self._queue[1:], entry], key=lambda one: (one.round, one.ticket))
        return entry.ticket

    def leave(self, ticket: int) -> None:
        """Give the place back, served or not; a ticket that left already is ignored."""
        self._queue = [one for one in self._queue if one.ticket != ticket]
        if self._queue:
            self._round = self._queue[0].round

    def position(self, ticket: int) -> int:
        """0 while it is this ticket's turn, 1 for the next in line. Raises KeyError once it has left."""
        for position, one in enumerate(self._queue):
            if one.ticket == ticket:
                return position
        raise KeyError(ticket)

    def tickets(self, session: str) -> tuple[int, ...]:
        """The session's requests, in the order in which they will be served."""
        return tuple(one.ticket for one in self._queue if one.session == session)

    @property
    def waiting(self) -> int:
        """How many wait behind the one being served."""
        return max(len(self._queue) - 1, 0)

    @property
    def busy(self) -> bool:
        """Whether anyone is served or waits."""
        return bool(self._queue)
