"""Weight files of both kinds give the same answers, shard by shard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from backends.errors import ModelDamaged, ModelNotFound, ModelUnsupported
from backends.models.weight_files import has_weights, read_any_headers, weight_tensors

TENSORS = {
    "a.weight": torch.arange(6, dtype=torch.float16).reshape(2, 3),
    "b": torch.ones(5, dtype=torch.bfloat16),
    "c": torch.tensor(7),
}


def write(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


def write_shards(folder: Path, ending: str, stem: str) -> None:
    """Two shards with an index, the first with one more copy of the second's last tensor."""
    names = [f"{stem}-0000{number}-of-00002.{ending}" for number in (1, 2)]
    write(folder / names[0], {"a.weight": TENSORS["a.weight"], "c": TENSORS["c"]})
    write(folder / names[1], {"b": TENSORS["b"], "c": TENSORS["c"]})
    index = {"weight_map": {"a.weight": names[0], "b": names[1], "c": names[1]}}
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps(index), encoding="utf-8")


@pytest.mark.parametrize("name", ["model.safetensors", "model.bin", "weights 权重.pth"])
def test_the_place_of_every_tensor_is_found(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, TENSORS)
    whole = path.read_bytes()

    found = weight_tensors(path)

    assert set(found) == set(TENSORS)
    for key, tensor in TENSORS.items():
        entry = found[key]
        assert entry.tensor.shape == tuple(tensor.shape)
        data = bytearray(whole[entry.offset : entry.offset + entry.tensor.nbytes])
        assert torch.equal(torch.frombuffer(data, dtype=tensor.dtype).reshape(tensor.shape), tensor)


@pytest.mark.parametrize(("ending", "stem"), [("safetensors", "model"), ("bin", "pytorch_model")])
def test_shards_are_read_by_their_index(tmp_path: Path, ending: str, stem: str) -> None:
    write_shards(tmp_path, ending, stem)

    headers = read_any_headers(tmp_path)

    assert has_weights(tmp_path)
    assert [sorted(tensor.name for tensor in header.tensors) for header in headers] == [
        ["a.weight", "c"],
        ["b"],
    ]
    for header in headers:
        offsets = weight_tensors(tmp_path / header.file)
        places = zip(header.tensors, header.begins, strict=True)
        assert all(offsets[tensor.name].offset == begin for tensor, begin in places)


def test_safetensors_come_first(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", TENSORS)
    write(tmp_path / "pytorch_model.bin", TENSORS)

    assert [header.file for header in read_any_headers(tmp_path)] == ["model.safetensors"]


@pytest.mark.parametrize(("ending", "stem"), [("safetensors", "model"), ("bin", "pytorch_model")])
def test_a_shard_that_is_not_there_is_named(tmp_path: Path, ending: str, stem: str) -> None:
    write_shards(tmp_path, ending, stem)
    (tmp_path / f"{stem}-00002-of-00002.{ending}").unlink()

    with pytest.raises(ModelDamaged, match="1 of 2 weight files are missing"):
        read_any_headers(tmp_path)


def test_a_half_downloaded_shard_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path, "bin", "pytorch_model")
    path = tmp_path / "pytorch_model-00002-of-00002.bin"
    path.write_bytes(path.read_bytes()[:700])

    with pytest.raises(ModelDamaged, match="ends after 700 bytes") as caught:
        read_any_headers(tmp_path)

    assert caught.value.values["file"] == path.name


def test_a_tensor_that_the_index_misplaces_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path, "bin", "pytorch_model")
    write(tmp_path / "pytorch_model-00002-of-00002.bin", {"c": TENSORS["c"]})

    with pytest.raises(ModelDamaged, match=r"lacks 1 tensors .* such as b"):
        read_any_headers(tmp_path)


def test_a_folder_without_weights_says_so(tmp_path: Path) -> None:
    assert not has_weights(tmp_path)
    with pytest.raises(ModelNotFound, match=r"no \.safetensors weights"):
        read_any_headers(tmp_path)


def test_a_pickle_of_another_name_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "consolidated.00.pth", TENSORS)

    with pytest.raises(ModelUnsupported, match="consolidated"):
        read_any_headers(tmp_path)
