"""Models of published shapes, from headers written once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.conversion.offer import offers
from backends.conversion.types import Offers
from backends.models.identify import identify
from backends.models.types import ModelInfo
from tests.support import checkpoints
from tests.support.asked import Asked

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


@pytest.fixture(scope="session")
def convertible(models: dict[str, ModelInfo], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Offers]:
    """What each model can be converted to; the starter's shape is taken for one with a tokenizer."""
    cache = tmp_path_factory.mktemp("cache")
    return {name: offers(replace(model, weights_present=False), cache) for name, model in models.items()}


@pytest.fixture(scope="session")
def llava_7b(models: dict[str, ModelInfo], convertible: dict[str, Offers]) -> Asked:
    """LLaVA-1.5-7B with what it can be converted to."""
    return Asked(models["llava-1.5-7b"], convertible["llava-1.5-7b"])


@pytest.fixture(scope="session")
def tiny(models: dict[str, ModelInfo], convertible: dict[str, Offers]) -> Asked:
    """A model of the starter's shape with what it can be converted to."""
    return Asked(models["starter"], convertible["starter"])
