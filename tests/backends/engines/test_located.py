"""Values at a place in a file: copies and windows hold the same bits, and a file that shrank is an error."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from backends.engines.located import Place, read, window

Take = Callable[[Place], torch.Tensor]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.int8, torch.bool]


def written(folder: Path, values: torch.Tensor, before: int) -> Place:
    """`values` in a file behind `before` bytes of something else."""
    file = folder / "权重 file.bin"
    raw = values.reshape(-1).view(torch.uint8).numpy().tobytes() if values.numel() else b""
    file.write_bytes(b"x" * before + raw + b"y" * 7)
    return Place(file, before, values.dtype, tuple(values.shape))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("before", [0, 64, 4096, 5000, 13], ids=lambda n: f"behind {n} bytes")
@pytest.mark.parametrize("take", [read, window])
def test_values_come_as_they_were_written(
    take: Take, before: int, dtype: torch.dtype, tmp_path: Path
) -> None:
    values = torch.arange(12).reshape(3, 4).to(dtype)
    found = take(written(tmp_path, values, before))
    assert found.dtype == dtype
    assert torch.equal(found, values)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("take", [read, window])
def test_any_shape_comes_back(take: Take, shape: tuple[int, ...], tmp_path: Path) -> None:
    values = torch.ones(shape)
    assert torch.equal(take(written(tmp_path, values, 64)), values)


def test_writing_to_a_window_leaves_the_file_alone(tmp_path: Path) -> None:
    place = written(tmp_path, torch.arange(4.0), 64)
    seen = window(place)
    seen += 1
    assert read(place).tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_read_only_file_can_be_looked_into(tmp_path: Path) -> None:
    place = written(tmp_path, torch.arange(4.0), 64)
    place.file.chmod(0o400)
    assert window(place).tolist() == read(place).tolist()


@pytest.mark.parametrize("take", [read, window])
def test_a_file_that_became_shorter_is_an_error(take: Take, tmp_path: Path) -> None:
    place = written(tmp_path, torch.arange(1000.0), 64)
    place.file.write_bytes(place.file.read_bytes()[:500])
    with pytest.raises(OSError, match="shorter than it was") as caught:
        take(place)
    assert caught.value.errno == errno.EIO
    assert str(place.file) in str(caught.value)
