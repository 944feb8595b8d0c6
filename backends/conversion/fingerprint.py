"""What stands for a checkpoint's content: its small files, the headers of its weight files, and samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from backends.conversion.source import Stored, stored_tensors
from backends.models.checkpoint import read_headers

# Raised whenever the same checkpoint gives another file.
_VERSION = 4
_SMALL_FILES = (
    *("config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"),
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"),
    *("chat_template.jinja", "chat_template.json", "model.safetensors.index.json"),
)
# A page: a disk reads no less.
_BLOCK = 4096
# 17 MiB at most, however large the weights are; 3 MiB of a checkpoint of 7 B with a tower, which has 690
# tensors. What was trained further in one of them alone, a norm or a projector, is noticed.
_IN_TENSORS = 4096
_EVENLY, _IN_ONE_FILE = 128, 512
# Of taller tables the end is looked at, too: there are the words that a training adds.
_TALL = 8192


class _Place(NamedTuple):
    """Where a sample lies, in bytes."""

    file: str
    begin: int
    length: int


class _State(NamedTuple):
    """What a file's samples hold for: nothing is read again before one of these changes."""

    file: str
    size: int
    written: int
    changed: int
    number: int


def fingerprint(folder: Path) -> str:
    """A hexadecimal digest of what is in the checkpoint, wherever it lies and whenever it was copied there.

    Of the weights samples are read, and again only after a file's size or one of its times has changed.
    Another training shows in nearly every block; a change of a few numbers, such as one row in the middle of
    one matrix, may go unnoticed. Raises OSError, and what reading headers raises.
    """
    digest = hashlib.sha256(f"version {_VERSION}".encode())
    for name in _SMALL_FILES:
        if (folder / name).is_file():
            content = (folder / name).read_bytes()
            digest.update(f"\n{name} {len(content)}\n".encode() + content)
    headers = read_headers(folder)
    for header in headers:
        digest.update(f"\n{header.file} {header.file_bytes}\n".encode())
        digest.update(repr(header.tensors).encode())
    digest.update(_of_checkpoint(folder, tuple(_state(folder / header.file) for header in headers)))
    return digest.hexdigest()


def file_samples(path: Path) -> bytes:
    """A digest of blocks that are spread evenly over a file. Raises OSError."""
    return _of_file(path, _state(path))


def _state(path: Path) -> _State:
    about = path.stat()
    return _State(path.name, about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino)


@lru_cache(maxsize=64)
def _of_checkpoint(folder: Path, states: Sequence[_State]) -> bytes:
    return _read(folder, [*_in_tensors(stored_tensors(folder, {}).values()), *_evenly(states, _EVENLY)])


@lru_cache(maxsize=64)
def _of_file(path: Path, state: _State) -> bytes:
    return _read(path.parent, _evenly((state,), _IN_ONE_FILE))


def _in_tensors(tensors: Iterable[Stored]) -> list[_Place]:
    """A place in each tensor, of more than 4,096 in any of them; and the end of each tall table."""
    ranked = sorted(tensors, key=_chance)
    tall = [one for one in ranked if one.tensor.shape and one.tensor.shape[0] > _TALL][:_EVENLY]
    return [*(_place(one) for one in ranked[:_IN_TENSORS]), *(_end(one) for one in tall)]


def _end(stored: Stored) -> _Place:
    tensor = stored.tensor
    length = min(_BLOCK, tensor.nbytes)
    return _Place(tensor.file, stored.begin + tensor.nbytes - length, length)


def _place(stored: Stored) -> _Place:
    tensor = stored.tensor
    offset = _chance(stored) % max(1, tensor.nbytes - _BLOCK + 1)
    return _Place(tensor.file, stored.begin + offset, min(_BLOCK, tensor.nbytes))


def _chance(stored: Stored) -> int:
    """Any number, always the same for a tensor's name."""
    return int.from_bytes(hashlib.sha256(stored.tensor.name.encode()).digest()[:8], "little")


def _evenly(states: Sequence[_State], count: int) -> list[_Place]:
    """About `count` places over all files, as many in each as its share of the bytes."""
    total = max(1, sum(state.size for state in states))
    places: list[_Place] = []
    for state in states:
        share = -(-count * state.size // total)
        begins = (state.size * (2 * number + 1) // (2 * share) for number in range(share))
        places += [_Place(state.file, begin, _BLOCK) for begin in begins]
    return places


def _read(folder: Path, places: Iterable[_Place]) -> bytes:
    """The digest of what is in `places`; in the order of the disk, which a turning one needs."""
    digest = hashlib.sha256()
    by_file: dict[str, list[_Place]] = {}
    for place in sorted(places):
        by_file.setdefault(place.file, []).append(place)
    for name, wanted in by_file.items():
        with (folder / name).open("rb", buffering=0) as file:
            for place in wanted:
                file.seek(place.begin)
                digest.update(file.read(place.length))
    return digest.digest()
