"""Files of torch.save are read without torch and without running them, and what hides in one is named."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from backends.errors import ModelDamaged, ModelUnsupported, SnugError
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


def archived(path: Path, program: bytes, **records: bytes) -> Path:
    """A zip file as torch.save lays it out, with a list of tensors of the test's own."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", program)
        for key, data in records.items():
            archive.writestr(f"model/data/{key.removeprefix('_')}", data)
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
    numbers = torch.arange(4, dtype=torch.float16)
    path = archived(tmp_path / "w.bin", tensor_program("0", 4, (2, 1), 2), _0=raw(numbers))

    check(path, {"a": numbers[2:].reshape(2, 1)})


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
