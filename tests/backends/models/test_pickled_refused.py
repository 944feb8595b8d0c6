"""What hides in a file of torch.save is refused by name, bounded in time, and never run."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from backends.errors import ModelDamaged, ModelUnsupported, SnugError
from backends.models.pickled import read_pickled_header
from backends.models.weight_files import weight_tensors


def archived(path: Path, program: bytes, **records: bytes) -> Path:
    """A zip file as torch.save lays it out, with a list of tensors of the test's own."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", program)
        for key, data in records.items():
            archive.writestr(f"model/data/{key.removeprefix('_')}", data)
    return path


class Malice:
    """Pickled, it asks for a program to be run when it is opened."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo run > /dev/null",)


def with_state() -> bytes:
    """BUILD on something that is no OrderedDict: a plain dict, given attributes."""
    return b"\x80\x02}}X\x01\x00\x00\x00aK\x01sb."


def by_storage() -> bytes:
    """A persistent id whose class is a function."""
    return b"\x80\x02(X\x07\x00\x00\x00storagecposix\nsystem\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ."


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        pytest.param(pickle.dumps({"a": Malice()}, 2), r"run (posix|nt)\.system", id="a call of os.system"),
        pytest.param(pickle.dumps({"a": Malice()}, 4), r"run (posix|nt)\.system", id="the same, protocol 4"),
        pytest.param(b"\x80\x02cposix\nsystem\n0}.", r"posix\.system", id="named and never called"),
        pytest.param(b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.", "builtins.eval", id="eval"),
        pytest.param(b"\x80\x02ctorch.hub\nload\n.", "torch.hub.load", id="another function of torch"),
        pytest.param(
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "_rebuild_tensor_v2 to", id="nothing"
        ),
        pytest.param(b"\x80\x02ccollections\nOrderedDict\n]\x85R.", "OrderedDict to", id="a call with items"),
        pytest.param(b"\x80\x02ctorch\nHalfStorage\n)R.", "REDUCE to", id="a class called"),
        pytest.param(with_state(), "BUILD to", id="attributes for a dict"),
        pytest.param(by_storage(), r"posix\.system", id="a function as a storage"),
        pytest.param(b"\x80\x02X\x01\x00\x00\x00aQ.", "BINPERSID to", id="a persistent id of its own"),
        pytest.param(b"\x80\x02P0\n.", "PERSID to", id="a persistent id in letters"),
        pytest.param(b"\x80\x02cos\n\x1b[2Jx\n.", r"os\.\?\[2Jx", id="a name that steers a terminal"),
        pytest.param(b"\x80\x02(iposix\nsystem\n.", "INST to", id="an instance of a class"),
        pytest.param(b"\x80\x02\x82\x01.", "EXT1 to", id="a registered extension"),
        pytest.param(b"\x80\x02K\x01.", "no tensors by their names", id="a number"),
        pytest.param(b"\x80\x02}.", "no tensors by their names", id="nothing inside"),
        pytest.param(b"\x80\x02}(]K\x01u.", "SETITEMS to", id="a list as a name"),
    ],
)
def test_whatever_is_not_a_list_of_tensors_is_refused_by_name(
    tmp_path: Path, program: bytes, sentence: str
) -> None:
    path = archived(tmp_path / "w.bin", program)

    with pytest.raises(ModelUnsupported, match=sentence) as caught:
        read_pickled_header(path)

    assert ".safetensors" in str(caught.value)


def short_text(text: str) -> bytes:
    return b"X" + len(text).to_bytes(4, "little") + text.encode()


def tensor_program(key: str, count: int, shape: tuple[int, ...], offset: int = 0) -> bytes:
    """The list of one float16 tensor `a`, as torch.save writes it."""
    strides = tuple(torch.Size(shape[number + 1 :]).numel() for number in range(len(shape)))
    storage = b"(" + short_text("storage") + b"ctorch\nHalfStorage\n" + short_text(key) + short_text("cpu")

    def number(value: int) -> bytes:
        return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    rebuilt = b"(" + storage + number(count) + b"tQ" + number(offset) + numbers(shape) + numbers(strides)
    return b"\x80\x02}" + short_text("a") + b"ctorch._utils\n_rebuild_tensor_v2\n" + rebuilt + b"\x89}tRs."


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        pytest.param(tensor_program("1", 4, (4,)), "lacks its part data/1", id="no such record"),
        pytest.param(tensor_program("0", 900, (900,)), "needs 1,800 bytes .* has 8", id="a larger storage"),
        pytest.param(tensor_program("0", 4, (5,)), "needs 10 bytes .* has 8", id="a larger tensor"),
        pytest.param(tensor_program("0", 4, (2,), 3), "needs 10 bytes .* has 8", id="begins too late"),
        pytest.param(tensor_program("0", 4, (1 << 40, 1 << 40)), "needs", id="a shape beyond any disk"),
        pytest.param(b"\x80\x02h\x05.", "at byte 2", id="recalls what was not kept"),
        pytest.param(b"\x80\x02tttt", "at byte 2", id="takes from an empty stack"),
        pytest.param(b"\x80\x02}X\xff\xff\xff\x7fa", "at byte", id="a text longer than the file"),
        pytest.param(b"\x80\x02}", "at byte", id="no end"),
        pytest.param(b"\xfe\xfe\xfe", "at byte 0", id="no pickle"),
        pytest.param(b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b".", "at byte 2", id="a number without end"),
    ],
)
def test_a_list_that_contradicts_the_file_is_damage_with_figures(
    tmp_path: Path, program: bytes, sentence: str
) -> None:
    path = archived(tmp_path / "w.bin", program, _0=bytes(8))

    with pytest.raises(ModelDamaged, match=sentence):
        read_pickled_header(path)


def test_the_test_s_own_list_is_one_that_is_read(tmp_path: Path) -> None:
    numbers = torch.arange(4, dtype=torch.float16).numpy().tobytes()
    path = archived(tmp_path / "w.bin", tensor_program("0", 4, (2, 1), 2), _0=numbers)

    found = weight_tensors(path)["a"]

    assert (found.tensor.dtype, found.tensor.shape) == ("float16", (2, 1))
    assert path.read_bytes()[found.offset :][:4] == numbers[4:]


NAME = short_text("n" * 600)


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        pytest.param(b"\x80\x02" + b"N" * 3_000_000, "2,000,000 steps", id="steps without end"),
        pytest.param(b"\x80\x02" + bytes(1 << 26), "33,554,432 bytes", id="a list larger than any"),
        pytest.param(b"\x80\x02}q\x00" + short_text("a") + b"h\x00s.", "levels of names", id="itself inside"),
        pytest.param(
            b"\x80\x02" + (b"}" + short_text("a")) * 50_000 + b"K\x01" + b"s" * 50_000 + b".",
            "levels of names",
            id="nested deep",
        ),
        pytest.param(b"\x80\x02" + b"(" * 500_000 + b"." * 2, "at byte", id="marks without end"),
        pytest.param(b"\x80\x02" + b")\x85" * 400_000 + b".", "no tensors", id="tuples nested deep"),
        pytest.param(
            b"\x80\x02]q\x00" + b"(" + b"K\x01" * 999 + b"e"
            # Each list holds the one before it a hundred times.
            + b"".join(
                b"]q" + bytes([level]) + b"(" + (b"h" + bytes([level - 1])) * 100 + b"e"
                for level in range(1, 9)
            )
            + b"}" + short_text("a") + b"h\x08s.",
            "1,000,000 values",
            id="a few lists that are billions",
        ),
        pytest.param(
            b"\x80\x02}" + NAME + b"}" + NAME + b"}" + NAME + b"K\x01sss.", "letters", id="a name without end"
        ),
    ],
)  # fmt: skip
def test_bombs_are_bounded(tmp_path: Path, program: bytes, sentence: str) -> None:
    path = archived(tmp_path / "w.bin", program)

    with pytest.raises(SnugError, match=sentence):
        read_pickled_header(path)


def test_a_directory_that_claims_half_the_disk_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    with path.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(1 << 26)
        file.seek(0, os.SEEK_END)
        size = (1 << 26) - 100
        file.write(b"PK\x05\x06" + bytes(8) + size.to_bytes(4, "little") + bytes(6))

    with pytest.raises(ModelUnsupported, match="bytes of directory"):
        read_pickled_header(path)


def test_flipped_bytes_never_end_in_anything_else(tmp_path: Path) -> None:
    """Whatever is changed: either the right kind of error, or tensors that lie inside of the file."""
    tensors = {"layers.0.weight": torch.randn(4, 6), "layers.0.bias": torch.randn(4), "n": torch.tensor(3)}
    buffer = io.BytesIO()
    torch.save(OrderedDict(tensors), buffer)
    whole = buffer.getvalue()
    path = tmp_path / "w.bin"
    chance = random.Random(5)
    refused = 0
    for _ in range(600):
        changed = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 8))):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        path.write_bytes(changed)
        try:
            found = weight_tensors(path)
        except SnugError:
            refused += 1
            continue
        assert all(entry.offset + entry.tensor.nbytes <= len(whole) for entry in found.values())
    assert 0 < refused < 600
