"""Weights from the disk: read into memory that is used again, as they are or converted, or named as lost."""

from __future__ import annotations

import errno
import os
import sys
from io import FileIO
from pathlib import Path
from threading import Thread

import pytest
import torch
from safetensors.torch import save_file

from backends.engines.reading import Extent, Reader, extents
from backends.engines.tensors import Stored
from backends.hardware.uncached import open_uncached
from tests.support.second_device import FAR, second_device

HALF = torch.arange(12, dtype=torch.bfloat16).reshape(3, 4)
BYTES = torch.arange(7, dtype=torch.uint8)
WIDE = torch.linspace(-2, 2, 10, dtype=torch.float32)


@pytest.fixture
def stored(tmp_path: Path) -> dict[str, Stored]:
    """Three tensors of two files in a folder with a space and Chinese; the second begins at an odd byte."""
    folder = tmp_path / "a 文件夹"
    folder.mkdir()
    one, two = folder / "one.safetensors", folder / "two.safetensors"
    save_file({"kept as": BYTES, "half": HALF}, one)
    save_file({"wide": WIDE}, two)
    return {
        "a.bytes": Stored(str(one), "kept as", torch.uint8),
        "a.half": Stored(str(one), "half", torch.bfloat16),
        "b.wide": Stored(str(two), "wide", torch.float32),
    }


def where(stored: dict[str, Stored]) -> tuple[Extent, ...]:
    return extents(stored.items())


def test_tensors_of_several_files_are_what_was_written(stored: dict[str, Stored]) -> None:
    found = Reader().take(where(stored), "cpu")

    assert torch.equal(found["a.bytes"], BYTES)
    assert torch.equal(found["a.half"], HALF)
    assert torch.equal(found["b.wide"], WIDE)


def test_a_tensor_that_is_used_in_another_dtype_is_converted(stored: dict[str, Stored]) -> None:
    half = {"a.half": Stored(stored["a.half"].file, "half", torch.float32)}

    found = Reader().take(where(half), "cpu")

    assert found["a.half"].dtype == torch.float32
    assert torch.equal(found["a.half"], HALF.float())


def test_the_next_part_lies_where_the_last_one_lay(stored: dict[str, Stored]) -> None:
    reader = Reader()
    everything = reader.take(where(stored), "cpu")
    begins = min(tensor.data_ptr() for tensor in everything.values())

    less = reader.take(where({"b.wide": stored["b.wide"]}), "cpu")

    assert less["b.wide"].data_ptr() == begins
    assert torch.equal(less["b.wide"], WIDE)


def test_a_part_for_another_device_passes_through_ram_tensor_by_tensor(stored: dict[str, Stored]) -> None:
    reader = Reader()
    with second_device():
        found = reader.take(where(stored), FAR)
        assert {str(tensor.device) for tensor in found.values()} == {FAR}
        back = {name: tensor.to("cpu") for name, tensor in found.items()}

    assert torch.equal(back["a.half"], HALF)
    assert torch.equal(back["b.wide"], WIDE)
    assert reader._memory is not None
    assert reader._memory.numel() < sum(extent.used_bytes for extent in where(stored)) + 64


def test_what_an_answer_read_can_be_read_again_outside_of_one(stored: dict[str, Stored]) -> None:
    """Memory that is made while a model answers could be read-only elsewhere: other threads move weights."""
    reader = Reader()
    with torch.inference_mode():
        reader.take(where(stored), "cpu")
    found: list[torch.Tensor] = []

    thread = Thread(target=lambda: found.append(reader.take(where(stored), "cpu")["a.half"]))
    thread.start()
    thread.join()

    assert torch.equal(found[0], HALF)


def _shortened(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size - 1)


@pytest.mark.parametrize("free", [0, 1 << 40], ids=["past the cache", "as usual"])
@pytest.mark.parametrize(
    ("harm", "said"),
    [
        pytest.param(_shortened, "shorter than it was", id="cut off"),
        pytest.param(Path.unlink, "No such file", id="gone"),
    ],
)
def test_a_file_that_changed_after_loading_is_an_error_with_its_name(
    stored: dict[str, Stored], harm: object, said: str, free: int
) -> None:
    wanted, reader = where(stored), Reader(available=lambda: free)
    reader.expect(1)
    file = Path(stored["b.wide"].file)
    assert callable(harm)
    harm(file)

    with pytest.raises(OSError, match=said) as caught:
        reader.take(wanted, "cpu")

    assert Path(caught.value.filename) == file
    assert torch.equal(reader.take([one for one in wanted if one.file != str(file)], "cpu")["a.half"], HALF)


@pytest.mark.parametrize(
    ("free", "past_cache"),
    [
        pytest.param(0, True, id="no room to keep them: past the cache"),
        pytest.param(1 << 40, False, id="room for all: the system keeps them"),
    ],
)
@pytest.mark.parametrize("larger", [0, 9_000_001], ids=["small", "more than a block, to an odd byte"])
def test_a_way_past_the_cache_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, larger: int, *, past_cache: bool
) -> None:
    file = tmp_path / "weights.safetensors"
    written = {"a": torch.arange(5000 + larger) % 251, "b": torch.linspace(0, 1, 10_001), "c": HALF}
    written["a"] = written["a"].to(torch.uint8)
    save_file(written, file)
    opened: list[Path] = []

    def watched(path: Path) -> FileIO | None:
        opened.append(path)
        return open_uncached(path)

    monkeypatch.setattr("backends.engines.reading.open_uncached", watched)
    kinds = {name: tensor.dtype for name, tensor in written.items()} | {"c": torch.float32}
    wanted = extents((name, Stored(str(file), name, kind)) for name, kind in kinds.items())
    reader = Reader(available=lambda: free)
    reader.expect(1)

    for _ in range(2):
        found = reader.take(wanted, "cpu")
        assert all(torch.equal(found[name], written[name].to(kind)) for name, kind in kinds.items())
    assert opened == [file] * (2 if past_cache else 0)


def test_a_file_system_without_a_way_past_the_cache_is_read_as_usual(
    stored: dict[str, Stored], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backends.engines.reading.open_uncached", lambda _: None)
    reader = Reader(available=lambda: 0)
    reader.expect(1)

    assert torch.equal(reader.take(where(stored), "cpu")["b.wide"], WIDE)


def test_a_file_system_that_opens_past_the_cache_and_refuses_to_read_is_asked_once(
    stored: dict[str, Stored], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    class Refusing(FileIO):
        def readinto(self, _: object, /) -> int:
            raise OSError(errno.EINVAL, "Invalid argument", str(self.name))

    def refusing(path: Path) -> FileIO:
        opened.append(path)
        return Refusing(path)

    monkeypatch.setattr("backends.engines.reading.open_uncached", refusing)
    reader = Reader(available=lambda: 0)
    reader.expect(1)

    for _ in range(2):
        found = reader.take(where(stored), "cpu")
        assert torch.equal(found["a.half"], HALF)
        assert torch.equal(found["b.wide"], WIDE)
    assert sorted(opened) == sorted({Path(one.file) for one in stored.values()})


def test_an_empty_tensor_is_read_and_nothing_else_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(tmp_path / "empty.safetensors")
    save_file({"none": torch.empty(0, 4), "some": WIDE}, file)
    told: list[int] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _file, _from, length, _advice: told.append(length))

    wanted = extents((name, Stored(file, name, torch.float32)) for name in ("none", "some"))
    found = Reader().take(wanted, "cpu")

    assert found["none"].shape == (0, 4)
    assert torch.equal(found["some"], WIDE)
    assert told == ([WIDE.nbytes] if sys.platform == "linux" else [])
