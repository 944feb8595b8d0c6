"""GGUF files that can't be used get a clear refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backends.errors import InputError, ModelDamaged, ModelUnsupported
from backends.models.identify import identify
from tests.support.gguf_files import TINY, decoder, eyes, tiny, write_gguf


def _garbage(folder: Path) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(b"<html>404</html>" * 10)
    return path


def _without(key: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        metadata, tensors = decoder(**TINY)
        del metadata[key]
        return write_gguf(folder / "model.gguf", metadata, tensors)

    return make


def _cut(folder: Path) -> Path:
    path = tiny(folder / "model.gguf")
    path.write_bytes(path.read_bytes()[:1000])
    return path


def _half_downloaded(folder: Path) -> Path:
    path = write_gguf(folder / "model.gguf", *decoder(**TINY), weights=True)
    path.write_bytes(path.read_bytes()[:-100_000])
    return path


def _layer_missing(folder: Path) -> Path:
    metadata, tensors = decoder(**TINY)
    return write_gguf(
        folder / "model.gguf", metadata, [one for one in tensors if not one[0].startswith("blk.1")]
    )


def _foreign_eyes(folder: Path) -> Path:
    eyes(folder / "mmproj.gguf", width=512)
    return tiny(folder / "model.gguf")


def _damaged_eyes(folder: Path) -> Path:
    (folder / "mmproj.gguf").write_bytes(b"GGUF")
    return tiny(folder / "model.gguf")


def _strange_eyes(folder: Path) -> Path:
    eyes(folder / "mmproj.gguf", "thirdeye")
    return tiny(folder / "model.gguf")


@pytest.mark.parametrize(
    ("make", "kind", "sentence"),
    [
        pytest.param(_garbage, ModelDamaged, "not a GGUF file", id="garbage"),
        pytest.param(_cut, ModelDamaged, "ends within its header", id="cut within the header"),
        pytest.param(_half_downloaded, ModelDamaged, "100,000 of its", id="half of a download"),
        pytest.param(
            _without("general.architecture"), ModelDamaged, "names no architecture", id="no architecture"
        ),
        pytest.param(_without("llama.block_count"), ModelDamaged, "does not tell .* sizes", id="no layers"),
        pytest.param(
            _without("llama.embedding_length"), ModelDamaged, "does not tell .* sizes", id="no width"
        ),
        pytest.param(
            _layer_missing, ModelDamaged, "holds 1 decoder layers .* say 2", id="a layer is missing"
        ),
        pytest.param(
            lambda folder: tiny(folder / "m.gguf", more={"llama.embedding_length": 512}),
            ModelDamaged,
            "width of 256, .* of 512",
            id="another width than it says",
        ),
        pytest.param(
            lambda folder: tiny(folder / "m.gguf", "mamba"), ModelUnsupported, "mamba", id="a recurrent model"
        ),
        pytest.param(
            lambda folder: tiny(folder / "m.gguf", "bert"), ModelUnsupported, "bert", id="an encoder"
        ),
        pytest.param(
            lambda folder: tiny(folder / "m.gguf", "qwen33"),
            ModelUnsupported,
            "nearest known one is qwen3",
            id="unheard of",
        ),
        pytest.param(
            lambda folder: eyes(folder / "mmproj.gguf"),
            ModelUnsupported,
            "without its language model",
            id="mmproj alone",
        ),
        pytest.param(
            lambda folder: eyes(folder / "mmproj.gguf").parent,
            ModelUnsupported,
            "without its language model",
            id="a folder with an mmproj alone",
        ),
        pytest.param(
            lambda folder: tiny(folder / "lora.gguf", more={"general.type": "adapter"}),
            ModelUnsupported,
            "lora.gguf is an adapter",
            id="a LoRA",
        ),
        pytest.param(
            _foreign_eyes, ModelDamaged, "width 512, and this one has 256", id="mmproj of another model"
        ),
        pytest.param(_damaged_eyes, ModelDamaged, "has 4 bytes", id="a damaged mmproj"),
        pytest.param(_strange_eyes, ModelUnsupported, "thirdeye", id="an unknown projector"),
    ],
)
def test_files_that_are_refused(
    tmp_path: Path, make: Callable[[Path], Path], kind: type[InputError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        identify(make(tmp_path))
