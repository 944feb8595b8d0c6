"""Headers of weight files of both kinds: .safetensors, and those of torch.save (.bin, .pth)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from backends.models.checkpoint import explain_absence, has_safetensors, read_headers, read_layout
from backends.models.pickled import read_pickled_header
from backends.models.safetensors_header import Header, read_header
from backends.models.types import Tensor

_PICKLED = "pytorch_model.bin"


@dataclass(frozen=True, slots=True)
class Located:
    """A tensor and the byte of its file where its data begins: rows one after the other, little-endian."""

    tensor: Tensor
    offset: int


def read_any_header(path: Path) -> Header:
    """Read the header of one weight file: .safetensors by that name, anything else as torch.save's.

    Raises ModelDamaged or ModelUnsupported, with the file's name and the figures. Nothing of it is run.
    """
    return read_header(path) if path.suffix.lower() == ".safetensors" else read_pickled_header(path)


def weight_tensors(path: Path) -> Mapping[str, Located]:
    """Every tensor of the weight file `path` by its key, in the file's order; errors as `read_any_header`."""
    return located(read_any_header(path))


def located(header: Header) -> Mapping[str, Located]:
    """The tensors of a header by their keys, each with its place in the file."""
    pairs = zip(header.tensors, header.begins, strict=True)
    return {tensor.name: Located(tensor, begin) for tensor, begin in pairs}


def has_weights(folder: Path) -> bool:
    """Whether `folder` has a whole model's weight files of either kind."""
    return has_safetensors(folder) or any(
        (folder / name).is_file() for name in (_PICKLED, f"{_PICKLED}.index.json")
    )


def read_any_headers(folder: Path) -> tuple[Header, ...]:
    """Read the header of every weight file of `folder`: .safetensors where there are any, else .bin.

    Raises as `read_headers` and `read_any_header`, ModelNotFound when there are no weights.
    """
    if has_safetensors(folder):
        return read_headers(folder)
    headers = read_layout(folder, _PICKLED, read_pickled_header)
    if headers is None:
        raise explain_absence(folder)
    return headers
