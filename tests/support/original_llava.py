"""The tiny LLaVA checkpoints in tests/fixtures: their cases, and a model from a recipe's sources."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from backends.messages import ImagePart, Message, Part, Role, TextPart
from backends.models.checkpoint import read_json_if_there
from backends.models.originals.llava import llava_recipe
from backends.models.originals.types import Companions, Recipe, Source
from backends.models.originals.types import Part as WeightPart

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
_NONE = Companions()
NAMES = (
    "llava-v1.5-full",
    "llava-v1.5-lora",
    "llava-v1.5-projector-only",
    "llava-v1.6-vicuna",
    "llava-v1.6-mistral",
)


def nowhere(_: str) -> Path | None:
    """A finder that finds nothing."""
    return None


@dataclass(frozen=True)
class Case:
    """One conversation of a fixture with what the original computes for it."""

    fixture: str
    name: str

    @property
    def expected(self) -> dict[str, Any]:
        found: dict[str, Any] = _expected(self.fixture)["cases"][self.name]
        return found

    def array(self, name: str) -> torch.Tensor:
        with np.load(FIXTURES / self.fixture / "expected.npz") as arrays:
            return torch.from_numpy(arrays[f"{self.name}/{name}"])

    def arrays(self) -> list[str]:
        with np.load(FIXTURES / self.fixture / "expected.npz") as arrays:
            stem = f"{self.name}/"
            return [name.removeprefix(stem) for name in arrays.files if name.startswith(stem)]

    def messages(self) -> list[Message]:
        stated = json.loads((FIXTURES / self.fixture / "inputs/conversation.json").read_text("utf-8"))
        case = next(one for one in stated if one["case"] == self.name)
        return conversation(
            case["messages"], [FIXTURES / self.fixture / "inputs" / name for name in case["images"]]
        )


def cases() -> list[Case]:
    """Every case of every fixture."""
    return [Case(fixture, name) for fixture in NAMES for name in _expected(fixture)["cases"]]


def conversation(stated: list[dict[str, str]], pictures: list[Path]) -> list[Message]:
    """Messages of texts in which `<image>` stands for the next picture."""
    waiting = iter(pictures)
    messages = []
    for item in stated:
        first, *rest = item["content"].split("<image>")
        parts: list[Part] = [TextPart(first)] if first else []
        for text in rest:
            parts += [picture(next(waiting)), TextPart(text)]
        messages.append(Message(Role(item["role"]), tuple(parts)))
    return messages


def picture(path: Path) -> ImagePart:
    """A stored picture as conversations hold it."""
    with Image.open(path) as image:
        return ImagePart(path, path.name, image.width, image.height)


def folders(fixture: str) -> list[Path]:
    """The checkpoint's folder and that of its twin in the other weight format."""
    stated = _expected(fixture)
    names = [stated["model_path"], *([stated["twin"]] if stated.get("twin") else [])]
    return [FIXTURES / fixture / "checkpoint" / name for name in names]


def recipe_of(folder: Path, companions: Companions = _NONE) -> Recipe:
    """The recipe of a folder, companions beside it."""
    return llava_recipe(folder, read_json_if_there(folder / "config.json"), companions, nowhere)


def values(recipe: Recipe, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """The state dict that the recipe's sources make, LoRAs merged in float32."""
    return {name: _value(source).to(dtype) for name, source in recipe.sources.items()}


def _value(source: Source) -> torch.Tensor:
    value = _read(source.part)
    for delta in source.deltas:
        added = delta.scale * (_read(delta.up).float() @ _read(delta.down).float())
        value = value.float() + (added.T if delta.turned else added)
    return value


def _read(part: WeightPart) -> torch.Tensor:
    tensor = _file(part.file)[part.key]
    return tensor if part.rows is None else tensor[slice(*part.rows)]


@cache
def _file(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    loaded: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return loaded


@cache
def _expected(fixture: str) -> dict[str, Any]:
    stated: dict[str, Any] = json.loads((FIXTURES / fixture / "expected.json").read_text("utf-8"))
    return stated
