"""Find what a checkpoint leans on: a base, a vision tower, a tokenizer's folder, by what its config says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from backends.errors import ModelUnsupported
from backends.models.adapter import Finder
from backends.text import Text, shown_name

_CONFIG = "config.json"
# Files that hold a LLaMA tokenizer's words: SentencePiece's own first, which is exact.
_TOKENIZERS = ("tokenizer.model", "tokenizer.json")


def find_companion(folder: Path, stated: object, finder: Finder) -> Path | None:
    """The model folder that `stated`, a path or a Hub name in the config of `folder`, means; None if absent.

    Looked for, in this order: an absolute path; that path inside `folder` and beside it; its last two parts
    there, which are a Hub name, and its last one; `finder`. Separators of either system are understood.
    """
    if not isinstance(stated, str) or not stated.strip():
        return None
    home = folder.absolute()
    try:
        for place in _places(home, stated.strip()):
            if (place / _CONFIG).is_file() and place.resolve() != home.resolve():
                return place
        found = finder(stated.strip())
        return None if found is None or found.resolve() == home.resolve() else found
    except (OSError, ValueError):  # too long for a path, or none at all
        return None


def given_folder(path: Path) -> Path:
    """The folder of what a person named, which may be a file in it; ModelUnsupported if it is none."""
    folder = path.parent if path.is_file() else path
    if (folder / _CONFIG).is_file():
        return folder
    raise ModelUnsupported(
        path=str(path),
        detail=Text("companion.no_model", "It holds no config.json, so it is no model's folder."),
        suggestion=Text(
            "companion.no_model_remedy", "Name the folder that holds config.json and weight files."
        ),
    )


def tokenizer_folder(given: Path | None, *places: Path | None) -> Path | None:
    """The first folder among `given` (a folder or a file in it) and `places` with a tokenizer's words.

    What was given is taken as it is: if it holds none, that is said when it is opened.
    """
    if given is not None:
        return given.parent if given.is_file() else given
    return next((place for place in places if place is not None and has_tokenizer(place)), None)


def has_tokenizer(folder: Path) -> bool:
    """Whether `folder` holds a tokenizer's words in one of LLaMA's formats."""
    return any((folder / name).is_file() for name in _TOKENIZERS)


def last_part(stated: str) -> str:
    """`vicuna-7b` of `lmsys/vicuna-7b`, `./models/vicuna-7b/` or a Windows path."""
    return PurePosixPath(stated.replace("\\", "/")).name


def tower_absent(folder: Path, stated: object) -> ModelUnsupported:
    """The error about a vision tower that is in none of the places."""
    if not isinstance(stated, str) or not stated.strip():
        return ModelUnsupported(
            path=str(folder),
            detail=Text(
                "companion.tower_unnamed",
                "It leaves out its vision tower, and its config.json does not name the one that it was "
                "trained with.",
            ),
            suggestion=Text(
                "companion.tower_unnamed_remedy",
                "Say where the tower is: under Custom on the page, or with --set vision_tower=PATH in a "
                "terminal.",
            ),
        )
    return ModelUnsupported(
        path=str(folder),
        detail=Text.of(
            "companion.tower_absent",
            "It leaves out its vision tower {tower}, which is neither beside it nor in the model folders or "
            "the Hub cache.",
            tower=shown_name(stated),
        ),
        suggestion=Text.of(
            "companion.tower_remedy",
            "Put the folder of {tower} beside it or into a model folder, or say where it is: under Custom on "
            "the page, or with --set vision_tower=PATH in a terminal.",
            tower=shown_name(stated),
        ),
    )


def base_absent(folder: Path, stated: object) -> ModelUnsupported:
    """The error about a base model that is in none of the places."""
    if isinstance(stated, str) and stated.strip():
        detail = Text.of(
            "companion.base_absent",
            "It is an addition to the model {base}, which is neither beside it nor in the model folders or "
            "the Hub cache.",
            base=shown_name(stated),
        )
    else:
        detail = Text(
            "companion.base_unnamed",
            "It is an addition to a language model of which it does not say the name, and no single model "
            "beside it has the sizes in its config.json.",
        )
    remedy = Text(
        "adapter.base_remedy",
        "Put that model beside it or into a model folder, or say where it is: under Custom on the page, or "
        "with --set base=PATH in a terminal.",
    )
    return ModelUnsupported(path=str(folder), detail=detail, suggestion=remedy)


def _places(home: Path, stated: str) -> Iterator[Path]:
    if Path(stated).is_absolute():
        yield Path(stated)
    written = stated.replace("\\", "/")
    last_two = "/".join(PurePosixPath(written).parts[-2:])
    for part in dict.fromkeys((written, last_two, last_part(stated))):
        # A Windows drive or a rooted path of another machine means nothing here, its last parts may.
        if part and not part.startswith("/") and ":" not in part:
            yield home / part
            yield home.parent / part
