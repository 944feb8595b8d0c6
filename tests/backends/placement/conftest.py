"""Models of published shapes, from headers written once."""

from __future__ import annotations

import pytest

from backends.models.identify import identify
from backends.models.types import ModelInfo
from tests.support import checkpoints

MAKERS = {
    "llava-1.5-7b": checkpoints.llava_15_7b,
    "llava-1.6-7b": checkpoints.llava_16_mistral_7b,
    "qwen2.5-vl-7b": checkpoints.qwen25_vl_7b,
    "starter": checkpoints.starter_like,
    "text-6b": checkpoints.llama,
    "chatglm3-6b": checkpoints.chatglm3_6b,
}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelInfo]:
    """Name -> model."""
    folder = tmp_path_factory.mktemp("models")
    return {name: identify(make(folder / name)) for name, make in MAKERS.items()}


@pytest.fixture(scope="session")
def llava(models: dict[str, ModelInfo]) -> ModelInfo:
    """LLaVA-1.5-7B."""
    return models["llava-1.5-7b"]


@pytest.fixture(scope="session")
def starter(models: dict[str, ModelInfo]) -> ModelInfo:
    """A model of the starter's shape."""
    return models["starter"]


@pytest.fixture(scope="session")
def chatglm(models: dict[str, ModelInfo]) -> ModelInfo:
    """ChatGLM3-6B, in its authors' layout."""
    return models["chatglm3-6b"]
