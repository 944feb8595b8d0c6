"""What the file of a language model says: sizes, positions, types; and what can't be said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from backends.conversion.checkpoint import open_checkpoint
from backends.conversion.types import WeightType
from backends.errors import ModelDamaged, ModelUnsupported
from tests.backends.conversion.conftest import Folder


def values(folder: Path) -> dict[str, Any]:
    return dict(open_checkpoint(folder).text_document(WeightType.Q8_0).values)


def changed(source: Path, target: Path, **changes: Any) -> Path:
    """A copy with another config; None takes a key away."""
    shutil.copytree(source, target)
    path = target / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    kept = {key: value for key, value in config.items() if value is not None}
    path.write_text(json.dumps(kept), encoding="utf-8")
    return target


@pytest.mark.parametrize(
    ("name", "architecture"),
    [("starter", "llama"), ("mistral", "llama"), ("qwen2", "qwen2"), ("llava-qwen2", "qwen2")],
)
def test_the_architecture(checkpoint: Folder, name: str, architecture: str) -> None:
    document = open_checkpoint(checkpoint(name)).text_document(WeightType.F16)
    assert document.architecture == architecture
    assert all(key.startswith((architecture, "general.", "tokenizer.", "snug.")) for key in document.values)


def test_the_sizes(checkpoint: Folder) -> None:
    found = values(checkpoint("llama"))
    sizes = {key.removeprefix("llama."): value for key, value in found.items() if key.startswith("llama.")}
    assert sizes == {
        "block_count": 3,
        "context_length": 512,
        "embedding_length": 64,
        "feed_forward_length": 128,
        "vocab_size": 320,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.key_length": 32,
        "attention.value_length": 32,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.freq_base": 10_000.0,
        "rope.dimension_count": 32,
    }


@pytest.mark.parametrize(
    ("name", "context"), [("llama", 512), ("mistral", 256), ("qwen2", 512), ("llava-mistral", 256)]
)
def test_a_window_is_the_longest_context(checkpoint: Folder, name: str, context: int) -> None:
    found = values(checkpoint(name))
    assert next(value for key, value in found.items() if key.endswith("context_length")) == context


def test_divided_positions(checkpoint: Folder) -> None:
    found = values(checkpoint("linear"))
    assert found["llama.rope.freq_base"] == 2000.0
    assert (found["llama.rope.scaling.type"], found["llama.rope.scaling.factor"]) == ("linear", 2.0)


def test_llama_3_s_positions_are_a_tensor(checkpoint: Folder) -> None:
    document = open_checkpoint(checkpoint("llama3")).text_document(WeightType.Q8_0)
    divisors = next(piece.values for piece in document.pieces if piece.name == "rope_freqs.weight")
    assert divisors[0] == 1.0
    assert divisors[-1] == 4.0
    assert list(divisors) == sorted(divisors)


@pytest.mark.parametrize(
    ("kind", "embedding", "head"),
    [
        (WeightType.F16, WeightType.F16, WeightType.F16),
        (WeightType.Q8_0, WeightType.Q8_0, WeightType.Q8_0),
        (WeightType.Q4_0, WeightType.Q4_0, WeightType.Q8_0),
    ],
)
def test_the_head_keeps_8_bits(
    checkpoint: Folder, kind: WeightType, embedding: WeightType, head: WeightType
) -> None:
    own = {
        piece.name: piece.kind for piece in open_checkpoint(checkpoint("llama")).text_document(kind).pieces
    }
    tied = {
        piece.name: piece.kind for piece in open_checkpoint(checkpoint("llama3")).text_document(kind).pieces
    }
    assert (own["token_embd.weight"], own["output.weight"]) == (embedding, head)
    assert tied["token_embd.weight"] == head
    assert "output.weight" not in tied


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"hidden_act": "gelu"}, "language model"),
        ({"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "factor": 2}}, "positions"),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "positions"),
    ],
    ids=["activation", "positions", "part of a head"],
)
def test_what_the_library_can_t_compute_is_refused(
    checkpoint: Folder, tmp_path: Path, changes: dict[str, Any], part: str
) -> None:
    with pytest.raises(ModelUnsupported, match=part):
        values(changed(checkpoint("llama"), tmp_path / "model", **changes))


def test_another_family_is_refused(checkpoint: Folder) -> None:
    with pytest.raises(ModelUnsupported, match="gemma3"):
        values(checkpoint("gemma3"))


def test_a_figure_of_another_type_is_damage(checkpoint: Folder, tmp_path: Path) -> None:
    with pytest.raises(ModelDamaged):
        values(changed(checkpoint("llama"), tmp_path / "model", rms_norm_eps="small"))
