"""Which files a GGUF model is made of: one file or a split set, and the picture part (mmproj) beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from backends.errors import ModelDamaged, ModelNotFound
from backends.models.gguf_damage import damaged
from backends.models.gguf_header import is_gguf
from backends.text import Text

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})", re.IGNORECASE)
_MMPROJ = "mmproj"
_MOST_PARTS = 1000


@dataclass(frozen=True, slots=True)
class GgufFiles:
    """`parts` are the files of the language model, in order; `others` the other GGUF files beside it.

    `path` is what llama.cpp is given: the first part.
    """

    name: str
    parts: tuple[Path, ...]
    others: tuple[Path, ...]

    @property
    def path(self) -> Path:
        """The first part."""
        return self.parts[0]


def find_files(path: Path) -> GgufFiles:
    """Find the files of the model that `path` (a file, any part of a split set, or a folder) means.

    Raises ModelDamaged when parts are missing, and ModelNotFound for a folder with several models or none.
    """
    if path.is_file():
        first, beside = path, _gguf_files(path.parent)
    else:
        beside = _gguf_files(path)
        first = _only_model(path, beside)
    found = _PART.fullmatch(first.stem)
    if found is None:
        others = tuple(other for other in beside if other.name != first.name)
        return GgufFiles(first.stem, (first,), others)
    parts = _parts(first, found)
    own = {part.name for part in parts}
    return GgufFiles(found["stem"], parts, tuple(other for other in beside if other.name not in own))


def holds_gguf(folder: Path) -> bool:
    """Whether a folder has GGUF files at all."""
    return folder.is_dir() and bool(_gguf_files(folder))


def named_mmproj(path: Path) -> bool:
    """Whether a file's name says that it is a picture part, as all published ones do."""
    return _MMPROJ in path.name.lower()


def models_among(files: tuple[Path, ...]) -> tuple[str, ...]:
    """Names of the models in `files`, split sets once; picture parts are none."""
    stems = (_stem(file) for file in files if not named_mmproj(file))
    return tuple(dict.fromkeys(stems))


def models_in(folder: Path) -> dict[str, Path]:
    """The models of a folder by name, each by its first file; picture parts are none."""
    found: dict[str, Path] = {}
    for file in _gguf_files(folder):
        if not named_mmproj(file):
            found.setdefault(_stem(file), file)
    return found


def _stem(file: Path) -> str:
    found = _PART.fullmatch(file.stem)
    return found["stem"] if found else file.stem


def _gguf_files(folder: Path) -> tuple[Path, ...]:
    try:
        inside = sorted(folder.iterdir())
    except OSError:
        return ()
    return tuple(file for file in inside if file.suffix.lower() == ".gguf" and is_gguf(file))


def _only_model(folder: Path, files: tuple[Path, ...]) -> Path:
    """The first file of the one model in `files`; of a folder of picture parts only, the first of those."""
    names = models_among(files)
    if len(names) > 1:
        shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        detail = Text.of(
            "gguf.several_models",
            "The folder holds {count} GGUF models ({names}). Name the file of one of them.",
            count=len(names),
            names=shown,
        )
        raise ModelNotFound(path=str(folder), detail=detail)
    models = [file for file in files if not named_mmproj(file)]
    return (models or list(files))[0]


def _parts(part: Path, found: re.Match[str]) -> tuple[Path, ...]:
    count = int(found["count"])
    if not 0 < count <= _MOST_PARTS or not 0 < int(found["number"]) <= count:
        raise damaged(
            part,
            Text.of("gguf.part_name", "{file} is not a possible name of a part of a model.", file=part.name),
        )
    parts = [
        part.with_name(f"{found['stem']}-{number:05}-of-{found['count']}{part.suffix}")
        for number in range(1, count + 1)
    ]
    missing = [one.name for one in parts if not one.is_file()]
    if missing:
        names = ", ".join(missing[:4]) + (", ..." if len(missing) > 4 else "")
        detail = Text.of(
            "gguf.missing_parts",
            "{missing} of the {count} parts of the model are missing: {names}.",
            missing=len(missing),
            count=count,
            names=names,
        )
        raise ModelDamaged(path=str(part.parent), detail=detail, file=names)
    return tuple(parts)
