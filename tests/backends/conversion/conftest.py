"""Checkpoints and converted files that the tests of conversion share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest

from backends.conversion.convert import convert
from backends.conversion.types import Converted, Request
from backends.settings import load_settings
from tests.support import tiny_models, tiny_texts

Folder = Callable[[str], Path]
Convert = Callable[..., Converted]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The folder of a checkpoint by its name, written once: `starter`, or a tiny random one."""
    root = tmp_path_factory.mktemp("checkpoints")

    def folder(name: str) -> Path:
        if name == "starter":
            return load_settings({}).starter
        path = root / name
        writers = tiny_texts.WRITERS | {
            "llava": tiny_models.write_llava,
            "llava-next": tiny_models.write_llava_next,
            "gemma3": tiny_models.write_gemma3,
        }
        return path if path.exists() else writers[name](path)

    return folder


@pytest.fixture(scope="session")
def converted(checkpoint: Folder, tmp_path_factory: pytest.TempPathFactory) -> Convert:
    """The files of a checkpoint by its name, converted once for each set of options."""
    cache = tmp_path_factory.mktemp("converted")

    def make(name: str, **options: Any) -> Converted:
        return convert(Request(checkpoint(name), cache, **options), lambda *_: None, Flag())

    return make
