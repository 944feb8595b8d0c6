"""A header is read without its weights, and every way to damage a file has its own sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backends.errors import ModelDamaged
from backends.models.safetensors_header import read_header
from tests.support.shapes import header_bytes, write_file

SHAPES = {"a.weight": (2, 3), "b.bias": (4,), "empty": (0,)}


def raw_header(header: object) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


def entry(begin: int, end: int, shape: list[Any] | None = None, dtype: str = "F16") -> dict[str, Any]:
    return {
        "dtype": dtype,
        "shape": [(end - begin) // 2] if shape is None else shape,
        "data_offsets": [begin, end],
    }


def test_names_shapes_dtypes_and_sizes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_file(path, SHAPES, "BF16", weights=True)

    header = read_header(path)

    assert [(t.name, t.dtype, t.shape, t.nbytes) for t in header.tensors] == [
        ("a.weight", "bfloat16", (2, 3), 12),
        ("b.bias", "bfloat16", (4,), 8),
        ("empty", "bfloat16", (0,), 0),
    ]
    assert header.complete
    assert header.file_bytes == path.stat().st_size


def test_a_file_that_ends_after_its_header_is_enough_for_planning(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_file(path, SHAPES, weights=False)

    assert not read_header(path).complete


def test_a_truncated_file_says_how_many_bytes_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_file(path, SHAPES, weights=True)
    path.write_bytes(path.read_bytes()[:-5])

    with pytest.raises(ModelDamaged, match="truncated: 5 of its 20 bytes") as caught:
        read_header(path)

    assert caught.value.values["file"] == "model.safetensors"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(b"", "has 0 bytes", id="empty file"),
        pytest.param(b"abc", "has 3 bytes", id="three bytes"),
        pytest.param(b"PK\x03\x04" + bytes(100), "announces a header", id="a zip file (pickle checkpoint)"),
        pytest.param(b"\xff" * 64, "the format allows", id="garbage length"),
        pytest.param((50).to_bytes(8, "little") + b"{}", "truncated or not", id="header cut off"),
        pytest.param(raw_header(b"not json at all"), "is not JSON", id="not JSON"),
        pytest.param(raw_header(b"\xff\xfe\x00\x01"), "is not JSON", id="not text"),
        pytest.param(raw_header(b"[" * 90_000), "is not JSON", id="nested without end"),
        pytest.param(raw_header([1, 2]), "not a JSON object", id="a list"),
        pytest.param(raw_header({"a": 5}), "unknown way", id="tensor is a number"),
        pytest.param(raw_header({"a": entry(0, 4, [-2])}), "invalid", id="negative size"),
        pytest.param(raw_header({"a": entry(0, 4, [True, 2])}), "invalid", id="boolean size"),
        pytest.param(raw_header({"a": {"dtype": "F16", "shape": [2]}}), "invalid", id="no offsets"),
        pytest.param(
            raw_header({"a": {"dtype": "F16", "shape": [2], "data_offsets": [0]}}), "invalid", id="one offset"
        ),
        pytest.param(
            raw_header({"a": entry(0, 4, dtype="F3")}) + bytes(4), "unknown dtype F3", id="unknown dtype"
        ),
        pytest.param(
            raw_header({"a": entry(0, 4, [9])}) + bytes(4), "its shape needs 18", id="shape and span differ"
        ),
        pytest.param(
            raw_header({"a": entry(0, 4), "b": entry(2, 6)}) + bytes(6), "overlaps", id="overlapping tensors"
        ),
        pytest.param(raw_header({"a": entry(0, 4), "b": entry(8, 10)}) + bytes(10), "hole", id="a hole"),
        pytest.param(
            raw_header(b'{"a":{"dtype":"F16","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}'),
            "not JSON",
            id="a number of 5,000 digits",
        ),
        pytest.param(
            raw_header({"a": entry(0, 2 * 10**30)}),
            "invalid dtype, shape or offset",
            id="larger than any disk",
        ),
        pytest.param(
            raw_header({"\x1b[2Ja": entry(0, 4, dtype="F3")}) + bytes(4),
            r"\?\[2Ja in",
            id="steers a terminal",
        ),
        pytest.param(raw_header({"a": entry(0, 4)}) + bytes(7), "3 bytes after", id="bytes behind the end"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "model 模型.safetensors"
    path.write_bytes(content)

    with pytest.raises(ModelDamaged, match=sentence) as caught:
        read_header(path)

    assert "模型" in str(caught.value)


def test_an_unreadable_file_is_damage_and_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(ModelDamaged, match="can't be read"):
        read_header(tmp_path / "absent.safetensors")


def test_the_helper_writes_what_the_format_says(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    path = tmp_path / "model.safetensors"
    write_file(path, SHAPES, "F32", weights=True)

    with safetensors.safe_open(str(path), framework="np") as file:
        assert set(file.keys()) == set(SHAPES)
    assert path.read_bytes().startswith(header_bytes(SHAPES, "F32"))
