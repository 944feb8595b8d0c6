"""A GGUF header is read without weights and without its vocabulary; damage has sentences of its own."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from backends.errors import InputError, ModelDamaged, ModelUnsupported
from backends.models.ggml_types import FILE_TYPES, TYPES
from backends.models.gguf_header import is_gguf, read_gguf_arrays, read_gguf_header
from tests.support.gguf_files import gguf_bytes, text_bytes, value_bytes, write_gguf

METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "general.file_type": 15,
    "llama.block_count": 2,
    "llama.attention.head_count_kv": [4, 8],
    "llama.rope.freq_base": 500_000.0,
    "clip.use_gelu": True,
    "some.offset": -3,
    "tokenizer.ggml.tokens": ["a", "", "wörd", "b" * 300],
    "tokenizer.ggml.scores": [0.0] * 5000,
    "tokenizer.chat_template": "{{ messages }}",
}
TENSORS = [("token_embd.weight", (10, 256), "q4_k"), ("norm.weight", (3,), "f32"), ("w", (2, 3, 32), "q8_0")]


def head(version: int = 3, tensors: int = 0, pairs: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs)


def test_numbers_texts_and_short_arrays_are_kept_and_vocabularies_only_counted(tmp_path: Path) -> None:
    header = read_gguf_header(write_gguf(tmp_path / "m.gguf", METADATA, TENSORS))

    assert header.text("general.architecture") == "llama"
    assert header.number("llama.block_count") == 2
    assert header.number("llama.attention.head_count_kv") == 8  # of an array the largest
    assert header.values["llama.attention.head_count_kv"] == (4, 8)
    assert header.values["llama.rope.freq_base"] == 500_000.0
    assert header.values["clip.use_gelu"] is True
    assert header.values["some.offset"] == -3
    assert header.lengths["tokenizer.ggml.tokens"] == 4
    assert header.lengths["tokenizer.ggml.scores"] == 5000
    assert not {"tokenizer.ggml.tokens", "tokenizer.ggml.scores"} & header.values.keys()


def test_arrays_are_read_in_full_where_they_are_asked_for(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", METADATA, TENSORS)
    tokens, scores = "tokenizer.ggml.tokens", "tokenizer.ggml.scores"

    found = read_gguf_arrays(path, (tokens, scores, "absent"))

    assert dict(found) == {tokens: (b"a", b"", "wörd".encode(), b"b" * 300), scores: (0.0,) * 5000}


def test_tensors_have_torchs_shapes_and_their_exact_sizes(tmp_path: Path) -> None:
    header = read_gguf_header(write_gguf(tmp_path / "m.gguf", METADATA, TENSORS))

    assert [(t.name, t.shape, t.dtype, t.nbytes) for t in header.tensors] == [
        ("token_embd.weight", (10, 256), "q4_k", 10 * 144),
        ("norm.weight", (3,), "f32", 12),
        ("w", (2, 3, 32), "q8_0", 6 * 34),
    ]


def test_a_number_that_is_none_is_not_taken_for_one(tmp_path: Path) -> None:
    values = {"zero": 0, "negative": -1, "true": True, "real": 3.0, "text": "7"}
    header = read_gguf_header(write_gguf(tmp_path / "m.gguf", values, []))

    assert [header.number(key) for key in (*values, "absent")] == [None] * 6


def test_a_file_that_ends_after_its_header_is_enough_for_planning(tmp_path: Path) -> None:
    whole = gguf_bytes(METADATA, TENSORS, weights=True)
    bare = gguf_bytes(METADATA, TENSORS)
    for name, content, complete in (("whole", whole, True), ("bare", bare, False)):
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(content)
        assert read_gguf_header(path).complete is complete


def test_the_first_part_of_a_split_set_may_hold_no_tensor(tmp_path: Path) -> None:
    assert read_gguf_header(write_gguf(tmp_path / "m.gguf", METADATA, [])).complete


@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_of_today_are_read(tmp_path: Path, version: int) -> None:
    path = write_gguf(tmp_path / "m.gguf", METADATA, TENSORS, version=version)

    assert read_gguf_header(path).version == version


def test_weights_may_be_aligned_as_the_file_states(tmp_path: Path) -> None:
    metadata = METADATA | {"general.alignment": 256}
    path = write_gguf(tmp_path / "m.gguf", metadata, TENSORS, weights=True, alignment=256)

    assert read_gguf_header(path).complete


def test_a_long_header_is_read_in_several_steps(tmp_path: Path) -> None:
    """More than a mebibyte of words, whose end lies in a later piece of the file."""
    words = [f"word{index}" * 4 for index in range(90_000)]
    path = write_gguf(tmp_path / "m.gguf", METADATA | {"merges": words, "after": 7}, TENSORS)

    header = read_gguf_header(path)

    assert path.stat().st_size > 2_500_000
    assert (header.lengths["merges"], header.number("after")) == (90_000, 7)
    assert len(header.tensors) == len(TENSORS)


def test_a_template_of_megabytes_is_only_measured(tmp_path: Path) -> None:
    header = read_gguf_header(write_gguf(tmp_path / "m.gguf", {"big": "x" * 2_000_000}, []))

    assert header.lengths["big"] == 2_000_000


def test_a_file_is_known_by_its_ending_or_its_first_bytes(tmp_path: Path) -> None:
    """Ollama keeps its files under names such as sha256-..., without an ending."""
    for name, content, expected in (
        ("a.gguf", b"", True),
        ("b.GGUF", b"", True),
        ("sha256-0af1", gguf_bytes({}, []), True),
        ("c.safetensors", b"12345678{}", False),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        assert is_gguf(path) is expected
    assert not is_gguf(tmp_path)
    assert not is_gguf(tmp_path / "absent")


def tensor(name: str, extents: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    shape = struct.pack(f"<I{len(extents)}Q", len(extents), *extents)
    return text_bytes(name) + shape + struct.pack("<IQ", kind, offset)


def pair(key: str, value: Any) -> bytes:
    return text_bytes(key) + (value if isinstance(value, bytes) else value_bytes(value))


_HUGE = struct.pack("<Q", 1 << 63)


@pytest.mark.parametrize(
    ("content", "kind", "sentence"),
    [
        pytest.param(b"", ModelDamaged, "has 0 bytes", id="empty file"),
        pytest.param(b"GGUF\x03", ModelDamaged, "has 5 bytes", id="five bytes"),
        pytest.param(b"PK\x03\x04" + bytes(100), ModelDamaged, "not a GGUF file", id="a zip file"),
        pytest.param(b"\xff" * 100, ModelDamaged, "not a GGUF file", id="garbage"),
        pytest.param(b"<!DOCTYPE html>" + bytes(100), ModelDamaged, "not a GGUF file", id="a web page"),
        pytest.param(b"tjgg" + bytes(100), ModelUnsupported, "before GGUF", id="llama.cpp of early 2023"),
        pytest.param(head(1) + bytes(9), ModelUnsupported, "GGUF version 1", id="version 1"),
        pytest.param(head(4) + bytes(9), ModelUnsupported, "GGUF version 4", id="a version of tomorrow"),
        pytest.param(
            b"GGUF" + struct.pack(">IQQ", 3, 0, 0), ModelUnsupported, "big-endian", id="the other byte order"
        ),
        pytest.param(
            head(tensors=1 << 60), ModelDamaged, "announces 1,152,921,504,606,846,976", id="endless tensors"
        ),
        pytest.param(head(pairs=1 << 40), ModelDamaged, "announces", id="endless metadata"),
        pytest.param(head(pairs=1) + _HUGE + bytes(20), ModelDamaged, "announces", id="endless key"),
        pytest.param(
            head(pairs=1) + text_bytes("k") + struct.pack("<I", 8) + _HUGE,
            ModelDamaged,
            "announces",
            id="endless text",
        ),
        pytest.param(
            head(pairs=1) + text_bytes("k") + struct.pack("<II", 9, 4) + _HUGE,
            ModelDamaged,
            "announces",
            id="endless array",
        ),
        pytest.param(
            head(pairs=1) + text_bytes("k") + struct.pack("<IIQ", 9, 8, 2) + _HUGE + bytes(16),
            ModelDamaged,
            "ends within its header",
            id="endless word of an array",
        ),
        pytest.param(
            head(pairs=1) + pair("k", struct.pack("<I", 99)) + bytes(8),
            ModelDamaged,
            "k in the header .* unknown type 99",
            id="unknown type of a value",
        ),
        pytest.param(
            head(pairs=1) + pair("k", struct.pack("<IIQ", 9, 9, 1)) + bytes(8),
            ModelDamaged,
            "unknown type 9",
            id="an array of arrays",
        ),
        pytest.param(
            head(pairs=2) + pair("same", 1) + pair("same", 2),
            ModelDamaged,
            "same stands twice",
            id="a key twice",
        ),
        pytest.param(
            head(pairs=1) + struct.pack("<Q", 70_000) + bytes(70_020),
            ModelDamaged,
            "name of 70,000 bytes",
            id="a key of 70,000 bytes",
        ),
        pytest.param(
            head(pairs=1) + pair("general.alignment", 12), ModelDamaged, "alignment", id="alignment of 12"
        ),
        pytest.param(
            head(pairs=1) + pair("general.alignment", 0), ModelDamaged, "alignment", id="alignment of 0"
        ),
        pytest.param(
            head(tensors=1) + text_bytes("w") + struct.pack("<I", 1 << 30) + bytes(40),
            ModelDamaged,
            "w in .* impossible shape",
            id="a billion dimensions",
        ),
        pytest.param(
            head(tensors=1) + tensor("w", (33,), kind=8),
            ModelDamaged,
            "impossible shape",
            id="a row that is no whole number of blocks",
        ),
        pytest.param(
            head(tensors=1) + tensor("w", (1 << 40, 1 << 40)),
            ModelDamaged,
            "impossible shape",
            id="too large",
        ),
        pytest.param(
            head(tensors=1) + tensor("w", (32,), kind=4), ModelUnsupported, "type 4", id="a type given up"
        ),
        pytest.param(
            head(tensors=1) + tensor("w", (32,), kind=77),
            ModelUnsupported,
            "type 77",
            id="a type of tomorrow",
        ),
        pytest.param(
            head(tensors=2) + tensor("w", (8,)) + tensor("w", (8,), offset=32),
            ModelDamaged,
            "w stands twice",
            id="a tensor twice",
        ),
        pytest.param(
            head(tensors=2) + tensor("a", (8,)) + tensor("b", (8,), offset=64),
            ModelDamaged,
            "begins at byte 64 .* should begin at 32",
            id="a hole in the weights",
        ),
        pytest.param(
            head(tensors=1) + tensor("a", (8,), offset=1 << 63),
            ModelDamaged,
            "begins at",
            id="an offset beyond",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: bytes, kind: type[InputError], sentence: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)

    with pytest.raises(kind, match=sentence):
        read_gguf_header(path)


def test_a_truncated_file_says_how_many_bytes_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes({}, [("w", (64,), "f32")], weights=True)[:-6])

    with pytest.raises(ModelDamaged, match="truncated: 6 of its 256 bytes") as caught:
        read_gguf_header(path)

    assert caught.value.values["file"] == "model.gguf"


def test_a_header_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    """Every length at which a download may have stopped."""
    whole = gguf_bytes(METADATA | {"tokenizer.ggml.scores": [0.5] * 20}, TENSORS)
    end = max(at for at in range(len(whole)) if whole[at])
    for length in range(end):
        path = tmp_path / "model.gguf"
        path.write_bytes(whole[:length])
        with pytest.raises(ModelDamaged):
            read_gguf_header(path)


def test_a_header_with_a_flipped_byte_is_read_or_refused_and_never_crashes(tmp_path: Path) -> None:
    whole = bytearray(gguf_bytes({**METADATA, "tokenizer.ggml.scores": [0.5] * 8}, TENSORS))
    path = tmp_path / "model.gguf"
    refused = 0
    for at in range(len(whole)):
        kept, whole[at] = whole[at], whole[at] ^ 0xFF
        path.write_bytes(whole)
        whole[at] = kept
        try:
            read_gguf_header(path)
        except InputError:
            refused += 1
    assert refused > 200


def test_a_header_of_terabytes_is_not_read_to_its_end(tmp_path: Path) -> None:
    """A sparse file that announces an array of 300 MB has the room, and no model has such a header."""
    path = tmp_path / "model.gguf"
    path.write_bytes(head(pairs=1) + text_bytes("k") + struct.pack("<IIQ", 9, 0, 300_000_000))
    with path.open("r+b") as file:
        file.truncate(400_000_000)

    with pytest.raises(ModelDamaged, match="no model has one"):
        read_gguf_header(path)


def test_names_from_the_file_are_shown_without_steering_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(head(tensors=1) + tensor("\x1b[2J" + "x" * 200, (33,), kind=8))

    with pytest.raises(ModelDamaged) as caught:
        read_gguf_header(path)

    assert "\x1b" not in str(caught.value)
    assert "x" * 100 not in str(caught.value)


def test_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(ModelDamaged, match="can't be read"):
        read_gguf_header(tmp_path / "absent.gguf")


class TestAgainstTheFormatsOwnPackage:
    """llama.cpp's `gguf` writes, and knows the same types and sizes."""

    def test_types_and_sizes(self) -> None:
        reference = {
            kind.value: (kind.name.lower(), *gguf.GGML_QUANT_SIZES[kind])
            for kind in gguf.GGMLQuantizationType
        }

        ours = {number: (kind.name, kind.block, kind.nbytes) for number, kind in TYPES.items()}
        assert {number: ours.get(number) for number in reference} == reference

    def test_names_of_mixtures(self) -> None:
        reference = {
            kind.value: kind.name.lower().removeprefix("mostly_").removeprefix("all_")
            for kind in gguf.LlamaFileType
            if kind.name != "GUESSED"
        }

        assert {number: FILE_TYPES.get(number) for number in reference} == reference

    @pytest.mark.parametrize("order", ["LITTLE", "BIG"])
    def test_a_file_that_it_wrote(self, tmp_path: Path, order: str) -> None:
        path = tmp_path / "m.gguf"
        writer = gguf.GGUFWriter(path, "llama", endianess=gguf.GGUFEndian[order])
        writer.add_block_count(3)
        writer.add_head_count_kv([1, 2, 3])
        writer.add_token_list(["one", "two"])
        writer.add_uint64("wide", 1 << 30)
        writer.add_float64("exact", 0.1)
        writer.add_tensor("blk.0.w", np.zeros((4, 32), dtype=np.float16))
        writer.add_tensor(
            "blk.1.w", np.zeros((4, 34), dtype=np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q8_0
        )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

        if order == "BIG":
            with pytest.raises(ModelUnsupported, match="big-endian"):
                read_gguf_header(path)
            return
        header = read_gguf_header(path)
        assert header.complete
        assert header.number("llama.block_count") == 3
        assert header.values["llama.attention.head_count_kv"] == (1, 2, 3)
        assert (header.values["wide"], header.values["exact"]) == (1 << 30, 0.1)
        assert header.lengths["tokenizer.ggml.tokens"] == 2
        assert [(t.name, t.shape, t.dtype, t.nbytes) for t in header.tensors] == [
            ("blk.0.w", (4, 32), "f16", 256),
            ("blk.1.w", (4, 32), "q8_0", 136),
        ]
