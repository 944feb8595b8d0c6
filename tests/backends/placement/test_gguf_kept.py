"""Room for conversations beside the last one: a few, within bounds, and part of the plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backends.models.gguf import identify_gguf
from backends.placement.gguf_kept import MIB, kept_bytes
from tests.support import gguf_files

GIB = 1 << 30


def gqa(folder: Path) -> Path:
    """A 7B with 8 heads of keys and values: 128 KiB a token."""
    return gguf_files.write_gguf(folder / "mistral.gguf", *gguf_files.decoder(kv_heads=8))


def tiny(folder: Path) -> Path:
    """1 KiB a token."""
    return gguf_files.tiny(folder / "tiny.gguf")


@pytest.mark.parametrize(
    ("write", "context", "expected"),
    [
        pytest.param(gqa, 4096, 256 * MIB, id="2,048 tokens of a 7B with grouped heads"),
        pytest.param(gguf_files.llava_15_7b, 4096, 512 * MIB, id="1,024 tokens of LLaVA-1.5-7B"),
        pytest.param(gguf_files.llava_15_7b, 128, 256 * MIB, id="four conversations of a short context"),
        pytest.param(tiny, 4096, 16 * MIB, id="four whole conversations of a tiny model"),
        pytest.param(tiny, 1, MIB, id="at least a MiB"),
    ],
)
def test_how_much(tmp_path: Path, write: Callable[[Path], Path], context: int, expected: int) -> None:
    assert kept_bytes(identify_gguf(write(tmp_path)), context) == expected


def test_never_more_than_a_gigabyte(tmp_path: Path) -> None:
    made = gguf_files.decoder(layers=80, hidden=8192, heads=64)
    path = gguf_files.write_gguf(tmp_path / "large.gguf", *made)
    assert kept_bytes(identify_gguf(path), 8192) == GIB
