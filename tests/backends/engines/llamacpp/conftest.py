"""Tiny GGUF models in the real library, loaded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest

from backends.engines.llamacpp_engine import LlamaCppEngine
from tests.support import tiny_gguf
from tests.support.plans import make_plan

# Nothing follows a picture that ends a message.
PICTURE_LAST = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


def _with_start(writer: Any) -> None:
    writer.add_bos_token_id(0)
    writer.kv_data[0].pop("tokenizer.ggml.add_bos_token")
    writer.add_add_bos_token(True)  # noqa: FBT003 - the library's signature


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
            tiles = (32, 64, 64, 32, 64, 64) if name == "eyes-tiles" else ()
            tiny_gguf.write_eyes(path.with_name("tiny-mmproj.gguf"), tiles=tiles)
        options = {
            "text": {"template": tiny_gguf.TEXT_CHATML},
            "endless": {"endless": True},
            "eyes-endless": {"endless": True},
            "plain": {"template": None},
            "start": {"template": "{{ bos_token }}" + tiny_gguf.TEXT_CHATML, "change": _with_start},
            "eyes-last": {"template": PICTURE_LAST, "endless": True},
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
