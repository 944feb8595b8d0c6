"""Checkpoints of published shapes, by their configs and headers: what their files would say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.conversion.checkpoint import Checkpoint, open_checkpoint
from backends.conversion.types import Layout, WeightType
from backends.errors import ModelDamaged
from tests.support import checkpoints
from tests.support.tiny_texts import pieces, vicuna_tokenizer


def llava_16(folder: Path) -> Path:
    """LLaVA-1.6 with what its config says of Mistral-7B-Instruct-v0.2: no window, a large base."""
    text = {
        "model_type": "mistral",
        "max_position_embeddings": 32768,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1_000_000.0,
        "sliding_window": None,
        "vocab_size": 32064,
    }
    path = checkpoints.llava_16_mistral_7b(folder) / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"text_config": text}
    path.write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], Path]], Checkpoint]:
    """Opens a checkpoint of headers, which has no weights to read, with a small Vicuna's words."""
    monkeypatch.setattr("backends.conversion.checkpoint.ensure_loadable", lambda _: None)

    def opens(write: Callable[[Path], Path]) -> Checkpoint:
        folder = write(tmp_path / "model")
        vicuna_tokenizer(folder, pieces())
        return open_checkpoint(folder)

    return opens


@pytest.mark.parametrize(
    ("write", "figures"),
    [
        (checkpoints.llava_15_7b, (32, 4096, 4096, 11008, 32064, 32, 32, 10_000.0)),
        (llava_16, (32, 32768, 4096, 14336, 32064, 32, 8, 1_000_000.0)),
    ],
    ids=["LLaVA-1.5", "LLaVA-1.6"],
)
def test_configs_that_leave_much_to_their_class(
    opened: Callable[..., Checkpoint], write: Callable[[Path], Path], figures: tuple[float, ...]
) -> None:
    values = opened(write).text_document(WeightType.Q8_0).values
    assert figures == tuple(
        values[f"llama.{key}"]
        for key in (
            *("block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size"),
            *("attention.head_count", "attention.head_count_kv", "rope.freq_base"),
        )
    )
    assert values["llama.attention.key_length"] == values["llama.rope.dimension_count"] == 128
    assert values["llama.attention.layer_norm_rms_epsilon"] == 1e-5


@pytest.mark.parametrize(
    ("kind", "size"), [(WeightType.F16, 13.48e9), (WeightType.Q8_0, 7.16e9), (WeightType.Q4_0, 3.87e9)]
)
def test_the_size_of_a_7b_model(opened: Callable[..., Checkpoint], kind: WeightType, size: float) -> None:
    document = opened(checkpoints.llava_15_7b).text_document(kind)
    assert document.nbytes == pytest.approx(size, rel=0.005)
    assert len(document.pieces) == 291


def test_a_large_tower(opened: Callable[..., Checkpoint]) -> None:
    document = opened(checkpoints.llava_15_7b).picture_document(Layout.ROTATED, WeightType.F16)
    assert document.values["clip.vision.block_count"] == 24
    assert document.values["clip.vision.feed_forward_length"] == 4096
    assert document.values["clip.vision.projection_dim"] == 4096
    assert document.values["clip.vision.attention.layer_norm_epsilon"] == 1e-5
    assert document.values["clip.use_gelu"] is False
    assert len(document.pieces) == 393
    positions = next(piece for piece in document.pieces if piece.name == "v.position_embd.weight")
    assert positions.shape == (577, 1024)


def test_headers_alone_are_not_converted(tmp_path: Path) -> None:
    with pytest.raises(ModelDamaged, match="headers only"):
        open_checkpoint(checkpoints.llava_15_7b(tmp_path / "model"))
