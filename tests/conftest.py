"""Fixtures that every folder of tests may use."""

from __future__ import annotations

import os

from backends.worker.environment import THREADS

pytest_plugins = ("tests.support.nvml",)


def pytest_configure() -> None:
    """Let idle threads sleep as they do in the worker: the suite shares its cores with its children."""
    os.environ.update(THREADS)
