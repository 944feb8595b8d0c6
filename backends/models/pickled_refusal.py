"""What can be wrong with weights that were saved by torch.save, in words."""

from __future__ import annotations

from pathlib import Path

from backends.errors import ModelDamaged, ModelUnsupported
from backends.text import Text, shown_name

_SAVE_ANEW = Text(
    "pickled.remedy",
    "Get the same model with .safetensors files, or open it where it was made, save only its tensors "
    "(state_dict) with a PyTorch of today, and use that file.",
)


def damaged(path: Path, detail: Text) -> ModelDamaged:
    """The error about a file that is not whole."""
    return ModelDamaged(path=str(path.parent), detail=detail, file=path.name)


def unsupported(path: Path, detail: Text) -> ModelUnsupported:
    """The error about a file that holds something else than tensors by their names."""
    return ModelUnsupported(path=str(path.parent), detail=detail, suggestion=_SAVE_ANEW)


def wants_code(path: Path, name: str) -> ModelUnsupported:
    """A pickle that names a function or class which no list of tensors needs."""
    return unsupported(
        path,
        Text.of(
            "pickled.code",
            "{file} asks to run {name} when it is opened, which weights never need. Nothing of it was run.",
            file=path.name,
            name=shown_name(name),
        ),
    )


def misused(path: Path, name: str, position: int) -> ModelUnsupported:
    """A known function or step, applied to what it is not for."""
    return unsupported(
        path,
        Text.of(
            "pickled.misused",
            "{file} applies {name} to something that is no part of tensors (at byte {position:count} of its "
            "list). Nothing of it was run.",
            file=path.name,
            name=shown_name(name),
            position=position,
        ),
    )


def no_names(path: Path) -> ModelUnsupported:
    """One bare tensor, a list, a number."""
    return unsupported(
        path, Text.of("pickled.no_names", "{file} holds no tensors by their names.", file=path.name)
    )


def other_layout(path: Path, tensor: str) -> ModelUnsupported:
    """A tensor whose rows do not lie one after the other."""
    return unsupported(
        path,
        Text.of(
            "pickled.strided",
            "{tensor} in {file} was saved transposed or stretched: its rows do not lie one after the other.",
            file=path.name,
            tensor=shown_name(tensor),
        ),
    )


def too_much(path: Path, most: int, what: Text) -> ModelUnsupported:
    """More of something than any model has; `what` names it in the plural."""
    return unsupported(
        path,
        Text.of(
            "pickled.too_much",
            "{file} goes beyond {most:count} {what}: more than the weights of any model need.",
            file=path.name,
            most=most,
            what=what,
        ),
    )


def legacy(path: Path) -> ModelUnsupported:
    """What torch wrote before 1.6, or a pickle of another program."""
    return unsupported(
        path,
        Text.of(
            "pickled.legacy",
            "{file} is a bare pickle, as PyTorch wrote it before version 1.6: it can't be read without "
            "running what it says.",
            file=path.name,
        ),
    )


def other_zip(path: Path) -> ModelUnsupported:
    """A zip file that torch.save did not write."""
    return unsupported(
        path,
        Text.of(
            "pickled.other_zip",
            "{file} is a zip file, but not one of weights: it has no data.pkl.",
            file=path.name,
        ),
    )


def program_inside(path: Path) -> ModelUnsupported:
    """TorchScript: a model with its code."""
    return unsupported(
        path,
        Text.of(
            "pickled.script", "{file} is a TorchScript program, which is code and weights.", file=path.name
        ),
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


def compressed(path: Path, record: str) -> ModelUnsupported:
    """A record that somebody packed again."""
    return unsupported(
        path,
        Text.of(
            "pickled.compressed",
            "{record} in {file} is compressed or encrypted; torch.save never does that.",
            file=path.name,
            record=shown_name(record),
        ),
    )


def not_weights(path: Path, size: int) -> ModelDamaged:
    """A page, a pointer, zeros: anything that neither zip nor pickle begins with."""
    return damaged(
        path,
        Text.of(
            "pickled.not_weights",
            "{file} has {size:count} bytes and does not begin as a file of weights does: what was downloaded "
            "is probably a pointer or a web page in its place.",
            file=path.name,
            size=size,
        ),
    )


def cut(path: Path, size: int) -> ModelDamaged:
    """A zip file without its end, where its directory is."""
    return damaged(
        path,
        Text.of(
            "pickled.cut",
            "{file} ends after {size:count} bytes without the directory that belongs at its end: it is "
            "truncated or damaged.",
            file=path.name,
            size=size,
        ),
    )


def record_lost(path: Path, record: str) -> ModelDamaged:
    """A tensor's data is not in the file."""
    return damaged(
        path,
        Text.of("pickled.lost", "{file} lacks its part {record}.", file=path.name, record=shown_name(record)),
    )


def outside(path: Path, record: str, end: int, size: int) -> ModelDamaged:
    """A record that would lie beyond the file, or not where the directory says."""
    return damaged(
        path,
        Text.of(
            "pickled.outside",
            "{record} in {file} should end at byte {end:count}, and the file has {size:count}.",
            file=path.name,
            record=shown_name(record),
            end=end,
            size=size,
        ),
    )


def beyond_storage(path: Path, tensor: str, needed: int, have: int) -> ModelDamaged:
    """A tensor that is larger than the record it lies in."""
    return damaged(
        path,
        Text.of(
            "pickled.beyond",
            "{tensor} in {file} needs {needed:count} bytes of a part that has {have:count}.",
            file=path.name,
            tensor=shown_name(tensor),
            needed=needed,
            have=have,
        ),
    )


def twice(path: Path, tensor: str) -> ModelDamaged:
    """Two tensors whose names are the same once all levels are joined."""
    return damaged(
        path,
        Text.of("pickled.twice", "{file} holds {tensor} twice.", file=path.name, tensor=shown_name(tensor)),
    )


def garbled(path: Path, position: int) -> ModelDamaged:
    """A list of tensors that breaks the rules of its own format."""
    return damaged(
        path,
        Text.of(
            "pickled.garbled",
            "The list of tensors in {file} can't be understood at byte {position:count}.",
            file=path.name,
            position=position,
        ),
    )


def unreadable(path: Path, error: OSError) -> ModelDamaged:
    """The file can't be opened or read."""
    return damaged(
        path,
        Text.of(
            "header.closed",
            "{file} can't be read ({cause}).",
            file=path.name,
            cause=error.strerror or type(error).__name__,
        ),
    )
