"""Says why a checkpoint can't be written as GGUF: the model has a part that the format has no place for."""

from __future__ import annotations

from pathlib import Path

from backends.errors import ModelDamaged, ModelUnsupported
from backends.text import Text, shown_name

LANGUAGE = Text("convert.part_language", "language model")
POSITIONS = Text("convert.part_positions", "way to count positions")
TOKENIZER = Text("convert.part_tokenizer", "tokenizer")
PICTURES = Text("convert.part_pictures", "picture part")
PROJECTOR = Text("convert.part_projector", "projector")
PROCESSOR = Text("convert.part_processor", "way to prepare pictures")
_REMEDY = Text("convert.remedy", "Let transformers run this model: --set engine=transformers.")


def refused(folder: Path, part: Text, kind: object) -> ModelUnsupported:
    """A part of a kind that can't be written."""
    detail = Text.of(
        "convert.refused",
        "It can't be converted for llama.cpp: its {part} is of a kind that can't be written ({kind}).",
        part=part,
        kind=shown_name(str(kind)[:80]),
    )
    return ModelUnsupported(path=str(folder), detail=detail, suggestion=_REMEDY)


def tiles_refused(folder: Path) -> ModelUnsupported:
    """Pictures in tiles, which llama.cpp puts together in another way."""
    detail = Text(
        "convert.tiles",
        "Its pictures can't be shown to llama.cpp: the model was trained on tiles of a picture laid together "
        "row by row, with a mark at the end of each row, and llama.cpp gives it one tile after the other.",
    )
    return ModelUnsupported(path=str(folder), detail=detail, suggestion=_REMEDY)


def lacking(folder: Path, name: str, file: str) -> ModelDamaged:
    """A tensor or entry that has to be there and is not."""
    detail = Text.of("convert.lacking", "{name} is missing in {file}.", name=shown_name(name), file=file)
    return ModelDamaged(path=str(folder), detail=detail, file=file)
