"""What can be wrong with the header of a GGUF file, in words."""

from __future__ import annotations

from pathlib import Path

from backends.errors import ModelDamaged, ModelUnsupported
from backends.text import Text, shown_name


def damaged(path: Path, detail: Text) -> ModelDamaged:
    """The error about a file of a model."""
    return ModelDamaged(path=str(path.parent), detail=detail, file=path.name)


def unsupported(path: Path, detail: Text) -> ModelUnsupported:
    """The error about a file of another kind or time."""
    return ModelUnsupported(
        path=str(path),
        detail=detail,
        suggestion=Text("gguf.get_current", "Get the same model as a GGUF file of today, version 3."),
    )


def short(path: Path, size: int, least: int) -> ModelDamaged:
    """Fewer bytes than the smallest file has."""
    return damaged(
        path,
        Text.of(
            "gguf.short",
            "{file} has {size:count} bytes; a GGUF file has at least {least}.",
            file=path.name,
            size=size,
            least=least,
        ),
    )


def not_gguf(path: Path) -> ModelDamaged:
    """Something else under this name."""
    return damaged(path, Text.of("gguf.not_gguf", "{file} is not a GGUF file.", file=path.name))


def older(path: Path) -> ModelUnsupported:
    """A format that llama.cpp itself has given up."""
    return unsupported(
        path, Text.of("gguf.older", "{file} is in llama.cpp's format from before GGUF.", file=path.name)
    )


def big_endian(path: Path) -> ModelUnsupported:
    """Numbers the other way round."""
    return unsupported(
        path,
        Text.of(
            "gguf.big_endian",
            "{file} was written for machines with the other byte order (big-endian).",
            file=path.name,
        ),
    )


def version(path: Path, number: int) -> ModelUnsupported:
    """A version of yesterday or tomorrow."""
    return unsupported(
        path,
        Text.of(
            "gguf.version",
            "{file} is GGUF version {version}; Snug reads versions 2 and 3.",
            file=path.name,
            version=number,
        ),
    )


def cut(path: Path, size: int) -> ModelDamaged:
    """The file ends before its header does."""
    return damaged(
        path,
        Text.of(
            "gguf.cut",
            "{file} ends within its header, after {size:count} bytes: it is truncated or damaged.",
            file=path.name,
            size=size,
        ),
    )


def endless(path: Path, most: int) -> ModelDamaged:
    """The header would be longer than any."""
    return damaged(
        path,
        Text.of(
            "gguf.endless",
            "{file} announces a header of more than {most:bytes}, and no model has one.",
            file=path.name,
            most=most,
        ),
    )


def count(path: Path, number: int, room: int) -> ModelDamaged:
    """More things than the file has bytes for."""
    return damaged(
        path,
        Text.of(
            "gguf.count",
            "{file} announces {count:count} entries where {room:count} bytes are left: it is truncated or "
            "damaged.",
            file=path.name,
            count=number,
            room=room,
        ),
    )


def long_name(path: Path, length: int) -> ModelDamaged:
    """A name that is none."""
    return damaged(
        path,
        Text.of(
            "gguf.long_name",
            "{file} has a name of {length:count} bytes in its header: it is damaged.",
            file=path.name,
            length=length,
        ),
    )


def alignment(path: Path) -> ModelDamaged:
    """Weights can't begin at such steps."""
    return damaged(
        path,
        Text.of("gguf.alignment", "{file} states an impossible alignment of its weights.", file=path.name),
    )


def offset(path: Path, name: str, begin: int, right: int) -> ModelDamaged:
    """A hole or an overlap in the weights."""
    return damaged(
        path,
        Text.of(
            "gguf.offset",
            "{tensor} in {file} begins at byte {begin:count} of the weights, and by the tensor before it "
            "should begin at {right:count}.",
            tensor=shown_name(name),
            file=path.name,
            begin=begin,
            right=right,
        ),
    )


def tensor_type(path: Path, name: str, number: int) -> ModelUnsupported:
    """A way to store weights of yesterday or tomorrow."""
    return unsupported(
        path,
        Text.of(
            "gguf.tensor_type",
            "{tensor} in {file} is stored in a way that this version does not know (type {type}).",
            tensor=shown_name(name),
            file=path.name,
            type=number,
        ),
    )


def truncated(path: Path, missing: int, whole: int) -> ModelDamaged:
    """Weights are missing at the end."""
    return damaged(
        path,
        Text.of(
            "header.truncated",
            "{file} is truncated: {missing:count} of its {whole:count} bytes of weights are missing.",
            file=path.name,
            missing=missing,
            whole=whole,
        ),
    )


def twice(path: Path, name: str) -> ModelDamaged:
    """A key or a tensor that stands twice."""
    return damaged(
        path,
        Text.of(
            "gguf.twice",
            "{name} stands twice in the header of {file}.",
            name=shown_name(name),
            file=path.name,
        ),
    )


def value_type(path: Path, key: str, number: int) -> ModelDamaged:
    """A type of value that the format does not have."""
    return damaged(
        path,
        Text.of(
            "gguf.value_type",
            "{key} in the header of {file} has the unknown type {type}: it is damaged.",
            key=shown_name(key),
            file=path.name,
            type=number,
        ),
    )


def shape(path: Path, name: str) -> ModelDamaged:
    """A shape that no tensor has."""
    return damaged(
        path,
        Text.of(
            "gguf.shape",
            "{tensor} in {file} has an impossible shape: it is damaged.",
            tensor=shown_name(name),
            file=path.name,
        ),
    )


def closed(path: Path, error: OSError) -> ModelDamaged:
    """The file can't be read at all."""
    return damaged(
        path,
        Text.of(
            "header.closed",
            "{file} can't be read ({cause}).",
            file=path.name,
            cause=error.strerror or type(error).__name__,
        ),
    )
