"""Real child processes with the fake engine; each test must leave none behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends.errors import SnugError
from backends.worker.client import Patience, WorkerClient
from tests.support.processes import children

Spawn = Callable[..., WorkerClient]


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Make a client of the fake engine; all are closed at the end and nothing is left."""
    clients: list[WorkerClient] = []
    before, threads = children(), set(threading.enumerate())

    def make(
        engine: str = "fake",
        patience: Patience | None = None,
        on_exit: Callable[[WorkerClient, SnugError], None] = lambda _client, _error: None,
        environment: dict[str, str] | None = None,
    ) -> WorkerClient:
        log = tmp_path / f"worker-{len(clients)}.log"
        client = WorkerClient(
            engine, environment or {}, log, on_exit=on_exit, patience=patience or Patience()
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()
    assert children() <= before
    assert set(threading.enumerate()) <= threads
