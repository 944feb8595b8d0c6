"""LLaVA-1.6: what the library makes of a picture's tiles, beside transformers. A reason to refuse them.

When this fails, the library has learnt it: `conversion.pictures` can describe tiles then.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event as Flag

import pytest
from PIL import Image

from backends.conversion.checkpoint import open_checkpoint
from backends.conversion.convert import convert
from backends.conversion.types import Layout, Piece, Request, WeightType
from backends.conversion.writer import write_document
from backends.engines.base import ChatRequest, Engine
from backends.engines.llamacpp_engine import LlamaCppEngine
from backends.engines.transformers_engine import TransformersEngine
from backends.messages import Done, ImagePart
from tests.support import tiny_models
from tests.support.answers import greedy, user
from tests.support.plans import make_plan

# Of a tower of 32 px in patches of 8: 16 tokens a tile.
SIZES = ((32, 32), (64, 64), (60, 40), (40, 60), (64, 20))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write_llava_next(tmp_path_factory.mktemp("models") / "next")


def as_gguf(folder: Path, target: Path) -> Path:
    """What a converter for llama.cpp writes of LLaVA-1.6: resolutions, kind of merging, end of a row."""
    text = convert(Request(folder, target, WeightType.F32), lambda *_: None, Flag()).text
    source = open_checkpoint(folder)
    grid = source.config["image_grid_pinpoints"]
    told = replace(source, config=dict(source.config) | {"model_type": "llava"})
    object.__setattr__(told, "folder", target / "none")  # no settings of a processor of tiles
    document = told.picture_document(Layout.PLAIN, WeightType.F32)
    values = {key: value for key, value in document.values.items() if not key.startswith("snug.picture.")}
    values |= {
        "clip.vision.mm_patch_merge_type": "spatial_unpad",
        "clip.vision.image_grid_pinpoints": tuple(side for height, width in grid for side in (width, height)),
    }
    newline = Piece("v.image_newline", (64,), WeightType.F32, "model.image_newline")
    document = replace(document, values=values, pieces=(*document.pieces, newline))
    write_document(
        document,
        folder,
        source.tensors,
        target / "mmproj.gguf",
        threads=1,
        report=lambda _: None,
        cancel=Flag(),
    )
    return text


def picture_tokens(engine: Engine, folder: Path) -> list[int]:
    found = []
    for width, height in SIZES:
        path = folder / f"{width}x{height}.png"
        Image.new("RGB", (width, height), "red").save(path)
        part = ImagePart(path, path.name, width, height)
        *_, done = engine.chat(ChatRequest("tab", [user(part, "What?")], greedy(1)), Flag())
        assert isinstance(done, Done)
        found.append(done.usage.image_tokens)
    return found


def test_the_library_puts_tiles_together_otherwise(checkpoint: Path, tmp_path: Path) -> None:
    ours, theirs = LlamaCppEngine(), TransformersEngine()
    ours.load(make_plan(as_gguf(checkpoint, tmp_path / "gguf"), context_tokens=1024), lambda _: None, Flag())
    theirs.load(make_plan(checkpoint, context_tokens=1024), lambda _: None, Flag())
    library, transformers = picture_tokens(ours, tmp_path), picture_tokens(theirs, tmp_path)
    ours.close()
    theirs.close()
    # An overview of 16 tokens, then rows cut to the picture's shape with one more token each.
    assert transformers == [16 + 4 * 5, 16 + 8 * 9, 16 + 6 * 9, 16 + 8 * 7, 16 + 2 * 9]
    # An overview for a small picture; else every tile in full beside it, without ends of rows.
    assert library == [16, 5 * 16, 5 * 16, 5 * 16, 3 * 16]
