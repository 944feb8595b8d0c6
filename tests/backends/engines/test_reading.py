"""Weights from the disk: read into memory that is used again, as they are or converted, or named as lost."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import pytest
import torch
from safetensors.torch import save_file

from backends.engines.reading import Extent, Reader, extents
from backends.engines.tensors import Stored
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


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        pytest.param(_shortened, "shorter than it was", id="cut off"),
        pytest.param(Path.unlink, "No such file", id="gone"),
    ],
)
def test_a_file_that_changed_after_loading_is_an_error_with_its_name(
    stored: dict[str, Stored], harm: object, said: str
) -> None:
    wanted, reader = where(stored), Reader()
    file = Path(stored["b.wide"].file)
    assert callable(harm)
    harm(file)

    with pytest.raises(OSError, match=said) as caught:
        reader.take(wanted, "cpu")

    assert Path(caught.value.filename) == file
    assert torch.equal(reader.take([one for one in wanted if one.file != str(file)], "cpu")["a.half"], HALF)
