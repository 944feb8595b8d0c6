"""Files of torch.save are read without torch and without running them."""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from backends.errors import ModelDamaged, ModelUnsupported
from backends.models.pickled import read_pickled_header
from backends.models.weight_files import weight_tensors

FIXTURE = Path(__file__).parents[2] / "fixtures" / "chatglm3-6b" / "checkpoint" / "chatglm3-6b-tiny"


def raw(tensor: torch.Tensor) -> bytes:
    """The numbers as they lie in a file."""
    flat = tensor.detach().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def check(path: Path, expected: dict[str, torch.Tensor]) -> None:
    """Every tensor of `expected` is found with its numbers, and nothing else."""
    whole = path.read_bytes()
    found = weight_tensors(path)
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        entry = found[name].tensor
        assert (f"torch.{entry.dtype}", entry.shape) == (str(tensor.dtype), tuple(tensor.shape))
        assert entry.file == path.name
        assert whole[found[name].offset :][: entry.nbytes] == raw(tensor)


def saved(path: Path, content: object, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


DTYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.bool),
    *(torch.complex64, torch.complex128),
)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_type_of_numbers_is_read(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3).to(dtype), "b": torch.ones(4).to(dtype)}

    check(saved(tmp_path / "weights 权重.bin", tensors), tensors)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_is_read(tmp_path: Path, protocol: int) -> None:
    tensors = {"a.weight": torch.randn(3, 2), "a.bias": torch.randn(3)}

    check(saved(tmp_path / "w.bin", tensors, pickle_protocol=protocol), tensors)


def test_a_module_s_own_state_is_read(tmp_path: Path) -> None:
    """It is an OrderedDict that carries the versions of its modules."""
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))

    check(saved(tmp_path / "w.bin", module.state_dict()), dict(module.state_dict()))


def test_parameters_are_tensors(tmp_path: Path) -> None:
    tensors = {"w": torch.nn.Parameter(torch.randn(3, 3))}

    check(saved(tmp_path / "w.bin", tensors), {"w": tensors["w"].data})


def test_tensors_that_share_a_storage_are_windows_into_it(tmp_path: Path) -> None:
    whole = torch.randn(6, 4)
    tensors = {"whole": whole, "tied": whole, "rows": whole[2:4], "bare": torch.empty(0), "one": whole[1, 2]}

    path = saved(tmp_path / "w.bin", tensors)

    check(path, tensors)
    found = weight_tensors(path)
    assert found["rows"].offset == found["whole"].offset + 2 * 4 * 4
    assert found["tied"].offset == found["whole"].offset


def test_dicts_in_dicts_join_their_names_and_figures_are_left_out(tmp_path: Path) -> None:
    content = OrderedDict(
        epoch=3,
        note="text",
        done=True,
        rate=0.5,
        none=None,
        model=OrderedDict(a=torch.ones(2), inner={"b": torch.zeros(3)}),
        steps=[torch.ones(1), 2],
    )

    check(
        saved(tmp_path / "w.bin", content),
        {"model.a": torch.ones(2), "model.inner.b": torch.zeros(3), "steps.0": torch.ones(1)},
    )


def test_a_large_offset_and_many_records_are_found(tmp_path: Path) -> None:
    tensors = {f"layers.{number}.weight": torch.full((number + 1,), float(number)) for number in range(300)}

    check(saved(tmp_path / "w.bin", tensors), tensors)


def test_a_published_shard_is_read() -> None:
    path = FIXTURE / "pytorch_model-00001-of-00002.bin"

    check(path, torch.load(path, weights_only=True))


def test_a_whole_module_is_refused_with_its_class(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.bin", torch.nn.Linear(2, 2))

    with pytest.raises(ModelUnsupported, match=r"torch\.nn\.modules\.linear\.Linear"):
        read_pickled_header(path)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"a": torch.ones(2, 3).T}, id="transposed"),
        pytest.param({"a": torch.ones(1).expand(5)}, id="stretched"),
        pytest.param({"a": torch.ones(8)[::2]}, id="every second"),
    ],
)
def test_rows_that_do_not_follow_each_other_are_refused(tmp_path: Path, content: object) -> None:
    path = saved(tmp_path / "w.bin", content)

    with pytest.raises(ModelUnsupported, match=r"a in w\.bin was saved transposed"):
        read_pickled_header(path)


def test_a_conjugated_view_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.bin", {"a": torch.ones(2, dtype=torch.complex64).conj()})

    with pytest.raises(ModelUnsupported, match="_rebuild_tensor_v2"):
        read_pickled_header(path)


def test_a_plain_pickle_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.bin", {"a": torch.ones(2)}, _use_new_zipfile_serialization=False)

    with pytest.raises(ModelUnsupported, match=r"before version 1\.6") as caught:
        read_pickled_header(path)

    assert "state_dict" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(b"", "0 bytes", id="empty"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\nsize 9\n", "50 bytes", id="LFS pointer"),
        pytest.param(b"<!DOCTYPE html><html>" + bytes(50), "71 bytes.*web page", id="a web page"),
        pytest.param(bytes(5000), "5,000 bytes", id="zeros"),
        pytest.param(b"PK\x03\x04" + bytes(5000), "5,004 bytes without the directory", id="only a beginning"),
    ],
)
def test_what_is_no_file_of_weights_is_damage_with_figures(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(content)

    with pytest.raises(ModelDamaged, match=sentence) as caught:
        read_pickled_header(path)

    assert caught.value.values["file"] == "pytorch_model.bin"


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file_says_so(tmp_path: Path, share: float) -> None:
    path = saved(tmp_path / "w.bin", {"a": torch.ones(2000), "b": torch.ones(500)})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises(ModelDamaged, match="truncated or damaged"):
        read_pickled_header(path)


def test_a_file_that_is_not_there_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(ModelDamaged, match="can't be read"):
        read_pickled_header(tmp_path / "absent.bin")


def zipped(compression: int, name: str = "model/data.pkl") -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr(name, b"\x80\x02}." + bytes(1000))

    return write


def program_file(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02}.")
        archive.writestr("model/constants.pkl", b"\x80\x02}.")


def other_order(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02}.")
        archive.writestr("model/byteorder", b"big")


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        pytest.param(zipped(zipfile.ZIP_DEFLATED), "compressed or encrypted", id="compressed"),
        pytest.param(zipped(zipfile.ZIP_STORED, "notes.txt"), "has no data.pkl", id="any zip file"),
        pytest.param(program_file, "TorchScript", id="a program"),
        pytest.param(other_order, "big-endian", id="the other byte order"),
    ],
)
def test_other_zip_files_are_refused(tmp_path: Path, write: Callable[[Path], None], sentence: str) -> None:
    write(tmp_path / "w.bin")

    with pytest.raises(ModelUnsupported, match=sentence):
        read_pickled_header(tmp_path / "w.bin")
