"""The process that waits for a model: it imports the engine's libraries before anybody asks for a load."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from backends.errors import SnugError
from backends.worker.client import WorkerClient

LOG = logging.getLogger("snug.service")


class Spare:
    """At most one warm process. `changed` guards it; it is not held while a process is started or ended.

    `spawn` starts a process for an engine; without `wanted` none is ever started ahead.
    """

    def __init__(
        self, spawn: Callable[[str], WorkerClient], changed: threading.Condition, *, wanted: bool
    ) -> None:
        self._spawn = spawn
        self._changed = changed
        self._wanted = wanted
        self._client: WorkerClient | None = None

    @property
    def client(self) -> WorkerClient | None:
        """The process that waits now."""
        with self._changed:
            return self._client

    def start(self, engine: str) -> None:
        """Start a process for `engine`, unless one waits; that none could be started is no failure."""
        with self._changed:
            if not self._wanted or self._client is not None:
                return
        try:
            client = self._spawn(engine)
        except SnugError:
            LOG.exception("No process could be started ahead of the next load.")
            return
        with self._changed:
            if client.alive:
                self._client = client

    def take(self, engine: str) -> WorkerClient | None:
        """Hand over the process that waits, if it is one for `engine` and lives; another one is ended."""
        with self._changed:
            client, self._client = self._client, None
        if client is not None and client.engine != engine:
            client.close()
            return None
        return client if client is not None and client.alive else None

    def renew(self) -> None:
        """Start the process that waits anew: it was started for other surroundings."""
        with self._changed:
            client, self._client = self._client, None
        if client is not None:
            client.close()
            self.start(client.engine)

    def ended(self, client: WorkerClient) -> None:
        """Learn that `client` ended by itself."""
        with self._changed:
            if client is self._client:
                self._client = None

    def close(self) -> None:
        """End the process that waits, and start no other."""
        with self._changed:
            self._wanted = False
            client, self._client = self._client, None
        if client is not None:
            client.close()
