"""What stands for tensors in a state dict: read when asked for, merged with LoRAs row by row, or resting."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from backends.engines.values import Resting, Value, place_of
from backends.models.originals.headers import Headers
from backends.models.originals.types import Delta, Part, Source

TORCH = torch.Generator().manual_seed(1)
WEIGHT = torch.randn(2500, 48, generator=TORCH)
UP, DOWN = torch.randn(2500, 4, generator=TORCH), torch.randn(4, 48, generator=TORCH)


@pytest.fixture(params=["safetensors", "bin"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    tensors = {"w": WEIGHT.half(), "up": UP.bfloat16(), "down": DOWN, "turned": WEIGHT.T.contiguous().half()}
    path = tmp_path / f"my weights.{request.param}"
    if request.param == "bin":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    return path


def test_a_tensor_is_what_the_file_holds(file: Path) -> None:
    value = Value(Headers(), Source(Part(file, "w")), torch.float16)
    assert value.nbytes == WEIGHT.numel() * 2
    assert torch.equal(value[...], WEIGHT.half())


def test_rows_of_a_fused_tensor_are_a_tensor(file: Path) -> None:
    source = Source(Part(file, "w", (100, 300)))
    value = Value(Headers(), source, torch.float16)
    assert torch.equal(value[...], WEIGHT.half()[100:300])
    assert value.nbytes == 200 * 48 * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("turned", [False, True], ids=["as stored", "turned"])
def test_a_lora_is_added_in_float32(file: Path, turned: bool, dtype: torch.dtype) -> None:
    delta = Delta(Part(file, "down"), Part(file, "up"), 0.5, turned)
    source = Source(Part(file, "turned" if turned else "w"), (delta, delta))
    value = Value(Headers(), source, dtype)
    product = UP.bfloat16().float() @ DOWN
    expected = WEIGHT.half().float() + product  # half of it, twice
    got = value[...]
    assert got.dtype == dtype
    assert torch.allclose(
        got.float(), (expected.T if turned else expected).to(dtype).float(), atol=1e-5, rtol=1e-2
    )
    if dtype == torch.float32:
        assert (got - (expected.T if turned else expected)).abs().max() < 1e-5


def test_what_rests_on_the_disk_has_a_shape_and_no_values() -> None:
    written: list[str] = []
    resting = Resting((3, 4), lambda: written.append("done"))
    assert written == []
    made = resting[...].to(device="cpu", dtype=torch.bfloat16)
    assert (made.device.type, made.dtype, tuple(made.shape)) == ("meta", torch.bfloat16, (3, 4))
    assert written == ["done"]


def test_a_tensor_that_is_none_of_the_file_is_named(file: Path) -> None:
    with pytest.raises(KeyError, match="gone"):
        place_of(Part(file, "gone"), Headers())
