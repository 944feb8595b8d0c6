"""The tiny CogVLMs of `tests/fixtures`: their checkpoints, conversations and what the original answered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

from backends.engines.cache import PrefixStore
from backends.engines.originals.cogvlm import voice
from backends.engines.originals.cogvlm.configuration import CogVLMConfig
from backends.engines.originals.cogvlm.modeling import CogVLMForCausalLM
from backends.engines.originals.voice import Voice
from backends.engines.paths import ChunkedPath
from backends.engines.pictures import FeatureStore
from backends.engines.runner import ChunkRunner
from backends.messages import ImagePart, Message, Role, TextPart
from backends.models.checkpoint import read_json
from backends.models.originals.cogvlm import cogvlm_recipe
from backends.models.originals.types import Companions, Recipe

ROOT = Path(__file__).parents[1] / "fixtures"
NAMES = ("cogvlm-chat", "cogvlm2-llama3-chat")
CPU = torch.device("cpu")


def nowhere(_: str) -> None:
    """A finder that finds nothing."""


def checkpoint(name: str) -> Path:
    """The checkpoint's folder of the fixture `name`."""
    return next(
        path for path in sorted((ROOT / name / "checkpoint").iterdir()) if path.name.startswith("cogvlm")
    )


def recipe_of(name: str, **named: Any) -> Recipe:
    """Its recipe, with companions `named`."""
    folder = checkpoint(name)
    return cogvlm_recipe(folder, read_json(folder / "config.json"), Companions(**named), nowhere)


def weights(recipe: Recipe) -> dict[str, torch.Tensor]:
    """Every tensor as it is stored."""
    found = {}
    for name, source in recipe.sources.items():
        with safe_open(source.part.file, framework="pt") as file:
            found[name] = file.get_tensor(source.part.key)
    return found


def load(recipe: Recipe, dtype: torch.dtype = torch.float32, **options: Any) -> CogVLMForCausalLM:
    """The model of `recipe`; `options` go to `from_pretrained`."""
    model, info = CogVLMForCausalLM.from_pretrained(
        None,
        config=CogVLMConfig(**recipe.config),
        state_dict=weights(recipe),
        dtype=dtype,
        output_loading_info=True,
        **options,
    )
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


@cache
def loaded(name: str) -> CogVLMForCausalLM:
    """The fixture's model in fp32, loaded once."""
    return load(recipe_of(name))


def voice_of(name: str, template: str | None = None) -> Voice:
    """What the fixture's model talks with."""
    return voice(recipe_of(name, template=template), loaded(name))


def chunked(
    model: CogVLMForCausalLM, prompts: Any, text_chunk: int = 128, context: int = 4096
) -> ChunkedPath:
    """The path on which the engine runs it."""
    dtype = model.get_input_embeddings().weight.dtype
    runner = ChunkRunner(model, FeatureStore(model, dtype, CPU), CPU)
    return ChunkedPath(prompts, runner, PrefixStore(model.config, context), context, text_chunk)


def shown(path: Path) -> ImagePart:
    """A picture's file as a part of a message."""
    with Image.open(path) as image:
        width, height = image.size
    return ImagePart(path, hashlib.sha256(path.read_bytes()).hexdigest(), width, height)


def said(role: Role, text: str, *pictures: ImagePart) -> Message:
    """A turn."""
    return Message(role, (*pictures, TextPart(text)))


@dataclass(frozen=True, slots=True)
class Case:
    """A conversation of a fixture and what the original made of it."""

    fixture: str
    name: str
    messages: tuple[Message, ...]
    template: str | None
    expected: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray[Any, Any]]

    @property
    def model(self) -> CogVLMForCausalLM:
        """The fixture's model in fp32."""
        return loaded(self.fixture)

    @property
    def voice(self) -> Voice:
        """What it talks with, in this case's format."""
        return voice_of(self.fixture, self.template)

    def tensor(self, name: str) -> torch.Tensor:
        """An array of the original's."""
        return torch.from_numpy(self.arrays[name])

    def inputs(self) -> dict[str, torch.Tensor]:
        """The original's own inputs, for the model as a whole."""
        found = {
            "input_ids": torch.tensor([self.expected["input_ids"]]),
            "token_type_ids": torch.tensor([self.expected["token_type_ids"]]),
        }
        if "pixel_values" in self.arrays:
            found["pixel_values"] = self.tensor("pixel_values")[None]
        return found


def cases() -> list[Case]:
    """Every conversation of both fixtures."""
    return [case for name in NAMES for case in _cases(name)]


def _cases(fixture: str) -> list[Case]:
    root = ROOT / fixture
    expected = json.loads((root / "expected.json").read_text(encoding="utf-8"))["cases"]
    arrays = np.load(root / "expected.npz")
    found = []
    for entry in json.loads((root / "inputs" / "conversation.json").read_text(encoding="utf-8")):
        name = entry["case"]
        pictures = [shown(root / "inputs" / entry["image"])] if entry["image"] else []
        found.append(
            Case(
                fixture,
                name,
                tuple(conversation(entry["history"], entry["query"], *pictures)),
                entry["template_version"],
                expected[name],
                {key.partition("/")[2]: arrays[key] for key in arrays if key.startswith(f"{name}/")},
            )
        )
    return found


def conversation(history: Sequence[Sequence[str]], query: str, *pictures: ImagePart) -> list[Message]:
    """Messages with the pictures in the first turn."""
    turns = []
    for asked, answered in history:
        turns += [said(Role.USER, asked), said(Role.ASSISTANT, answered)]
    turns.append(said(Role.USER, query))
    return [Message(Role.USER, (*pictures, *turns[0].parts)), *turns[1:]]


def named(case: Case) -> str:
    """How tests call a case."""
    return f"{case.fixture}, {case.name}"
