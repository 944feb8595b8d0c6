"""Tiny models and pictures that the engine tests share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event as Flag

import pytest
from PIL import Image, ImageDraw

from backends.engines.transformers_engine import TransformersEngine, quiet
from backends.messages import ImagePart
from tests.support import tiny_models
from tests.support.plans import make_plan

Draw = Callable[[str], ImagePart]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model by its name, written once."""
    root = tmp_path_factory.mktemp("models")
    quiet()

    def folder(name: str) -> Path:
        path = root / name
        return path if path.exists() else tiny_models.WRITERS[name](path)

    return folder


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Draw:
    """A stored picture: a circle of the named colour, not square."""
    root = tmp_path_factory.mktemp("pictures")

    def draw(color: str) -> ImagePart:
        path = root / f"{color}.png"
        if not path.exists():
            image = Image.new("RGB", (60, 40), "white")
            ImageDraw.Draw(image).ellipse((10, 5, 40, 35), fill=color)
            image.save(path)
        return ImagePart(path, hashlib.sha256(path.read_bytes()).hexdigest(), 60, 40)

    return draw


@pytest.fixture(scope="session")
def engines(models: Callable[[str], Path]) -> Iterator[Callable[[str], TransformersEngine]]:
    """A loaded engine by the name of its model, loaded once (fp32, everything on the CPU)."""
    loaded: dict[str, TransformersEngine] = {}

    def engine(name: str) -> TransformersEngine:
        if name not in loaded:
            loaded[name] = TransformersEngine()
            loaded[name].load(make_plan(models(name), context_tokens=1024), lambda _: None, Flag())
        return loaded[name]

    yield engine
    for each in loaded.values():
        each.close()
