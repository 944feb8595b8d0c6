"""A checkpoint's content is told from samples: bounded reads, none of them twice."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path

import pytest

from backends.conversion.fingerprint import fingerprint

_LAYERS = 450
_SHARDS = ("model-1.safetensors", "model-2.safetensors")


def zeros(folder: Path, side: int) -> Path:
    """A checkpoint of two files, with square matrices of zeros that take no room on the disk."""
    nbytes = 2 * side**2
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    weight_map: dict[str, str] = {}
    for shard, layers in zip(_SHARDS, (range(_LAYERS // 2), range(_LAYERS // 2, _LAYERS)), strict=True):
        header = {
            f"layers.{layer}.weight": {
                "dtype": "BF16",
                "shape": [side, side],
                "data_offsets": [number * nbytes, (number + 1) * nbytes],
            }
            for number, layer in enumerate(layers)
        }
        raw = json.dumps(header).encode()
        with (folder / shard).open("wb") as file:
            file.write(len(raw).to_bytes(8, "little") + raw)
            file.truncate(8 + len(raw) + len(header) * nbytes)
        weight_map |= dict.fromkeys(header, shard)
    index = {"weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def words_and_norms(folder: Path) -> dict[str, tuple[int, int]]:
    """A checkpoint of a tall table, matrices larger than it, and norms; where each lies in the file."""
    shapes = {"embed": [9000, 8], **{f"layers.{at}.weight": [300, 300] for at in range(500)}}
    shapes |= {f"layers.{at}.norm": [64] for at in range(500)}
    places: dict[str, tuple[int, int]] = {}
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
        places[name] = begin, end
    raw = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + end)
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    return {name: (8 + len(raw) + begin, 8 + len(raw) + end) for name, (begin, end) in places.items()}


@pytest.mark.parametrize(
    ("tensor", "last"),
    [
        pytest.param("layers.7.norm", 128, id="a norm among a thousand tensors"),
        pytest.param("layers.499.weight", 2 * 300**2, id="one matrix"),
        pytest.param("embed", 3 * 16, id="words that were added at the end"),
    ],
)
def test_a_training_of_little_is_noticed(tmp_path: Path, tensor: str, last: int) -> None:
    place = words_and_norms(tmp_path)[tensor]
    before = fingerprint(tmp_path)
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.seek(place[1] - last)
        file.write(b"\1" * last)
    later = (tmp_path / "model.safetensors").stat().st_mtime_ns + 1_000_000_000
    os.utime(tmp_path / "model.safetensors", ns=(later, later))

    assert fingerprint(tmp_path) != before


def bytes_read() -> int:
    """By this process, from files."""
    lines = Path("/proc/self/io").read_text(encoding="utf-8").splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


@pytest.mark.skipif(sys.platform != "linux", reason="needs sparse files, and a count of what was read")
def test_little_is_read_of_a_large_checkpoint_and_nothing_twice(tmp_path: Path) -> None:
    large = zeros(tmp_path, 4096)
    assert sum((large / shard).stat().st_size for shard in _SHARDS) > 15e9
    before = bytes_read()
    first = fingerprint(large)
    once = bytes_read() - before
    assert 1 << 20 < once < 3 << 20
    assert fingerprint(large) == first
    twice = bytes_read() - before - once
    assert twice < 1 << 18, "headers and small files only"


@pytest.mark.parametrize("shard", _SHARDS)
def test_a_few_matrices_retrained_are_noticed(tmp_path: Path, shard: str) -> None:
    some = zeros(tmp_path, 64)
    first = fingerprint(some)
    with (some / shard).open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        file.seek(8 + length)
        file.write(b"\1" * 4 * 2 * 64**2)
    later = (some / shard).stat().st_mtime_ns + 1_000_000_000
    os.utime(some / shard, ns=(later, later))
    assert fingerprint(some) != first
