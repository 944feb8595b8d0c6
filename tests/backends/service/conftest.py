"""A real service with real child processes and the fake engine; nothing may be left after `close`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backends.service import Service
from backends.settings import Settings, load_settings
from tests.support.plans import make_plan
from tests.support.processes import children


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    home = tmp_path / "家 home"
    return replace(load_settings({"SNUG_HOME": str(home)}), model_folders=(home / "models",))


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    """An empty service that starts processes on demand only."""
    before, threads = children(), set(threading.enumerate())
    with Service(settings, preload=False, engine="fake") as made:
        yield made
    assert children() <= before
    assert set(threading.enumerate()) <= threads


@pytest.fixture
def ready(service: Service) -> Service:
    """A service with a model in memory."""
    list(service.load(make_plan("model")))
    return service
