"""The tiny checkpoints of tests/fixtures as a person asks them: folders, conversations, what is right."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


@dataclass(frozen=True)
class Asked:
    """One case of a fixture. `content` is what `ask --messages` reads, pictures by their whole paths."""

    fixture: str
    case: str
    folder: Path
    content: tuple[dict[str, Any], ...]
    template: str | None
    greedy_ids: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.fixture} {self.case}"


def every_case() -> list[Asked]:
    """All cases of all fixtures."""
    return [asked for folder in sorted(FIXTURES.iterdir()) if folder.is_dir() for asked in _cases(folder)]


def one_of_each() -> list[Asked]:
    """The first case of every fixture."""
    return list({asked.fixture: asked for asked in reversed(every_case())}.values())


@cache
def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _cases(folder: Path) -> list[Asked]:
    expected = _json(folder / "expected.json")
    found = []
    for stated in _json(folder / "inputs" / "conversation.json"):
        content = _marked(folder, stated) if "messages" in stated else _told(folder, stated)
        greedy = tuple(expected["cases"][stated["case"]]["greedy_ids"])
        checkpoint = folder / "checkpoint" / expected["model_path"]
        template = stated.get("template_version")
        found.append(Asked(folder.name, stated["case"], checkpoint, tuple(content), template, greedy))
    return found


def _picture(folder: Path, name: str) -> dict[str, Any]:
    return {"type": "image", "path": str(folder / "inputs" / name)}


def _marked(folder: Path, stated: dict[str, Any]) -> list[dict[str, Any]]:
    """LLaVA's: `<image>` in a text stands for the next picture."""
    waiting = iter(stated["images"])
    found = []
    for message in stated["messages"]:
        first, *rest = message["content"].split("<image>")
        parts: list[dict[str, Any]] = [{"type": "text", "text": first}] if first.strip() else []
        for text in rest:
            parts += [_picture(folder, next(waiting)), {"type": "text", "text": text.strip("\n")}]
        found.append({"role": message["role"], "content": parts})
    return found


def _told(folder: Path, stated: dict[str, Any]) -> list[dict[str, Any]]:
    """CogVLM's and ChatGLM3's: a history and a query; CogVLM's picture belongs to the first question."""
    found: list[dict[str, Any]] = []
    for turn in stated["history"]:
        if isinstance(turn, list):
            found += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]
        else:
            found.append(turn)
    found.append({"role": "user", "content": stated["query"]})
    if stated.get("image"):
        first = next(turn for turn in found if turn["role"] == "user")
        text = {"type": "text", "text": first["content"]}
        first["content"] = [_picture(folder, stated["image"]), text]
    return found
