"""Tiny GGUF models in the real library, loaded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event as Flag

import pytest

from backends.engines.llamacpp_engine import LlamaCppEngine
from tests.support import tiny_gguf
from tests.support.plans import make_plan

Engines = Callable[[str], LlamaCppEngine]
Files = Callable[[str], Path]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The file of a tiny model by its name, written once, each in a folder of its own."""
    root = tmp_path_factory.mktemp("gguf")

    def file(name: str) -> Path:
        path = root / name / "tiny.gguf"
        if path.exists():
            return path
        if name.startswith("eyes"):
            tiny_gguf.write_eyes(path.with_name("tiny-mmproj.gguf"))
        options = {
            "text": {"template": tiny_gguf.TEXT_CHATML},
            "endless": {"endless": True},
            "eyes-endless": {"endless": True},
            "plain": {"template": None},
            "characters": {"says": "中a🙂"},
        }
        return tiny_gguf.write_text(path, **options.get(name, {}))  # type: ignore[arg-type]

    return file


@pytest.fixture(scope="session")
def engines(files: Files) -> Iterator[Engines]:
    """A loaded engine by the name of its model."""
    loaded: dict[str, LlamaCppEngine] = {}

    def engine(name: str) -> LlamaCppEngine:
        if name not in loaded:
            loaded[name] = LlamaCppEngine()
            loaded[name].load(make_plan(files(name), context_tokens=1024), lambda _: None, Flag())
        return loaded[name]

    yield engine
    for each in loaded.values():
        each.close()
