"""Opens a checkpoint for conversion: config with defaults, tensors by the names they have once loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.conversion.language import Language, language_document
from backends.conversion.pictures import Eyes, picture_document
from backends.conversion.refusal import LANGUAGE, lacking, refused
from backends.conversion.source import Stored, stored_tensors
from backends.conversion.tokenizer import tokenizer_values
from backends.conversion.types import Document, Layout, Value, WeightType
from backends.errors import ModelDamaged
from backends.models.checkpoint import read_headers, read_json
from backends.models.defaults import completed
from backends.models.geometry import text_config
from backends.models.identify import ensure_loadable, identify, picture_processor
from backends.models.safetensors_header import Header
from backends.models.tensor_names import tensor_names
from backends.models.types import ModelInfo
from backends.text import Text

_ROOTS = ("model.", "model.language_model.")
# What a config.json of wrong figures leads to.
_BAD_FIGURES = (KeyError, TypeError, ValueError, ZeroDivisionError)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint in `folder`. `config` is completed; `tensors` are by the names in the loaded model."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Stored]

    def text_document(self, kind: WeightType, words: Mapping[str, Value] | None = None) -> Document:
        """The language model's file. `words` are the tokenizer's metadata, by default those of `words()`.

        Raises ModelUnsupported or ModelDamaged.
        """
        words = self.words() if words is None else words
        try:
            model = self._language()
            return language_document(model, kind, words)
        except _BAD_FIGURES as error:
            raise self._damaged() from error

    def words(self) -> Mapping[str, Value]:
        """The tokenizer's metadata. Raises ModelUnsupported or ModelDamaged."""
        try:
            model = self._language()
            return tokenizer_values(self.folder, model.config, model.embedding[0])
        except _BAD_FIGURES as error:
            raise self._damaged() from error

    def picture_document(
        self, layout: Layout, kind: WeightType, processor: Mapping[str, Any] | None = None
    ) -> Document:
        """The picture part's file. `processor` is the pictures' own, by default the folder's.

        Raises ModelUnsupported or ModelDamaged.
        """
        name = self.folder.resolve().name
        processor = picture_processor(self.folder) if processor is None else processor
        eyes = Eyes(self.folder, name, self.config, processor, self._shapes())
        try:
            return picture_document(eyes, layout, kind)
        except _BAD_FIGURES as error:
            raise self._damaged() from error

    def _language(self) -> Language:
        shapes = self._shapes()
        root = next((root for root in _ROOTS if f"{root}embed_tokens.weight" in shapes), None)
        if root is None:
            raise lacking(self.folder, "embed_tokens.weight", "*.safetensors")
        text = text_config(self.config)
        tied = self.config.get("tie_word_embeddings") is True
        model = Language(self.folder, self.folder.resolve().name, text, shapes, root, tied)
        if not model.architecture:
            raise refused(self.folder, LANGUAGE, text.get("model_type"))
        return model

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
    config, names = _config_and_names(folder, model.family, read_headers(folder))
    return Checkpoint(folder, completed(config), stored_tensors(folder, names))


def look_at(model: ModelInfo) -> Checkpoint:
    """The same checkpoint for describing files only: nothing can be read from it, and headers are enough."""
    headers = read_headers(model.path)
    config, names = _config_and_names(model.path, model.family, headers)
    tensors = {names[one.name]: Stored(one, 0) for header in headers for one in header.tensors}
    return Checkpoint(model.path, completed(config), tensors)


def _config_and_names(
    folder: Path, family: str, headers: Sequence[Header]
) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    config = read_json(folder / "config.json")
    stored = [tensor.name for header in headers for tensor in header.tensors]
    return config, tensor_names(stored, config, family)
