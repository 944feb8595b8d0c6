"""Opens a checkpoint for conversion: config with defaults, tensors by the names they have once loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.conversion.language import Language, language_document
from backends.conversion.pictures import Eyes, picture_document
from backends.conversion.refusal import LANGUAGE, lacking, refused
from backends.conversion.source import Stored, stored_tensors
from backends.conversion.tokenizer import tokenizer_values
from backends.conversion.types import Document, Layout, WeightType
from backends.errors import ModelDamaged
from backends.models.checkpoint import read_headers, read_json
from backends.models.defaults import completed
from backends.models.geometry import text_config
from backends.models.identify import ensure_loadable, identify, picture_processor, tensor_names
from backends.text import Text

_ROOTS = ("model.", "model.language_model.")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint in `folder`. `config` is completed; `tensors` are by the names in the loaded model."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Stored]

    def text_document(self, kind: WeightType) -> Document:
        """The language model's file. Raises ModelUnsupported or ModelDamaged."""
        shapes = self._shapes()
        root = next((root for root in _ROOTS if f"{root}embed_tokens.weight" in shapes), None)
        if root is None:
            raise lacking(self.folder, "embed_tokens.weight", "*.safetensors")
        text = text_config(self.config)
        tied = self.config.get("tie_word_embeddings") is True
        try:
            model = Language(self.folder, self.folder.resolve().name, text, shapes, root, tied)
            if not model.architecture:
                raise refused(self.folder, LANGUAGE, text.get("model_type"))
            words = tokenizer_values(self.folder, text, model.embedding[0])
            return language_document(model, kind, words)
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise self._damaged() from error

    def picture_document(self, layout: Layout, kind: WeightType) -> Document:
        """The picture part's file. Raises ModelUnsupported or ModelDamaged."""
        name, processor = self.folder.resolve().name, picture_processor(self.folder)
        eyes = Eyes(self.folder, name, self.config, processor, self._shapes())
        try:
            return picture_document(eyes, layout, kind)
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged() from error

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: stored.tensor.shape for name, stored in self.tensors.items()}

    def _damaged(self) -> ModelDamaged:
        detail = Text("convert.config", "Its config.json lacks a figure, or has one of another type.")
        return ModelDamaged(path=str(self.folder), detail=detail, file="config.json")


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read what the checkpoint in `folder` is, and where its weights lie.

    Raises what identifying raises, and ModelUnsupported for anything but whole safetensors checkpoints.
    """
    model = identify(folder)
    ensure_loadable(model)
    if model.format != "safetensors" or model.adapter is not None:
        raise refused(folder, LANGUAGE, model.format)
    config = read_json(folder / "config.json")
    stored = [tensor.name for header in read_headers(folder) for tensor in header.tensors]
    names = tensor_names(stored, config, model.family)
    return Checkpoint(folder, completed(config), stored_tensors(folder, names))
