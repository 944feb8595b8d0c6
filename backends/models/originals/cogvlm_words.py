"""Finds the tokenizer of a CogVLM, which its authors left to Vicuna; CogVLM2 brings its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from backends.errors import ModelDamaged, ModelUnsupported, SnugError
from backends.models.adapter import Finder
from backends.models.originals.pieces import count_pieces
from backends.text import Text, shown_name

_VICUNA = "lmsys/vicuna-7b-v1.5"
# The folders in which people keep it beside the checkpoint.
_BESIDE = ("vicuna-7b-v1.5", "vicuna-7b-v1.5-tokenizer", _VICUNA)
# SentencePiece's own file first: it is what the authors read.
_PIECES, _MERGES = "tokenizer.model", "tokenizer.json"
_WEIGHTS = ("*.safetensors", "*.bin", "config.json")
# Vocabularies are padded up to a multiple of this many rows, at most.
_PADDING = 64


def tokenizer_file(place: Path) -> Path | None:
    """The tokenizer's words in the folder `place`, or `place` itself where it is such a file."""
    if place.is_file():
        return place if place.suffix in (".model", ".json") else None
    return next((place / name for name in (_PIECES, _MERGES) if (place / name).is_file()), None)


def find_words(
    folder: Path, given: Path | None, rows: int, finder: Finder, *, own: bool = False
) -> Path | None:
    """Where the tokenizer of the checkpoint in `folder`, with a vocabulary of `rows`, is; None if nowhere.

    What was `given` is taken or refused (ModelUnsupported). Else it is looked for in `folder`, beside it
    under Vicuna's names, by `finder`, and beside it in folders called after Vicuna or with nothing but a
    tokenizer, in the order of their names; not where the checkpoint should have its `own`.
    """
    if given is not None:
        return _checked(folder, given, rows)
    if tokenizer_file(folder) is not None:
        return folder
    if own:
        return None
    return next((place for place in _places(folder, finder) if _suits(place, rows)), None)


def words_absent(folder: Path, *, own: bool) -> SnugError:
    """The error about a tokenizer that is nowhere, or not among the checkpoint's `own` files."""
    if own:
        detail = Text.of("checkpoint.missing", "{file} is missing.", file=_MERGES)
        return ModelDamaged(path=str(folder), detail=detail, file=_MERGES)
    return ModelUnsupported(
        path=str(folder),
        detail=Text.of(
            "cogvlm.words_absent",
            "CogVLM comes without a tokenizer: it uses that of {name}, which is neither beside it nor in the "
            "model folders or the Hub cache.",
            name=_VICUNA,
        ),
        suggestion=Text.of(
            "cogvlm.words_remedy",
            "Put tokenizer.model of {name} into a folder {folder} beside it, or say where it is: under "
            "Custom on the page, or with --set tokenizer=PATH in a terminal.",
            name=_VICUNA,
            folder=_BESIDE[0],
        ),
    )


def _places(folder: Path, finder: Finder) -> Iterator[Path]:
    around = folder.absolute().parent
    yield from (around / name for name in _BESIDE)
    try:
        found = finder(_VICUNA)
        siblings = sorted(place for place in around.iterdir() if place.is_dir())
    except OSError:
        return
    if found is not None:
        yield found
    yield from (place for place in siblings if "vicuna" in place.name.casefold())
    yield from (place for place in siblings if not any(next(place.glob(name), None) for name in _WEIGHTS))


def _suits(place: Path, rows: int) -> bool:
    """Whether `place` holds words that fit; a tokenizer.json alone only where its name is the right one."""
    try:
        if (place / _PIECES).is_file():
            return _fits(_count(place / _PIECES), rows)
        return place.name in [Path(name).name for name in _BESIDE] and (place / _MERGES).is_file()
    except OSError:
        return False


def _fits(count: int | None, rows: int) -> bool:
    return count is not None and rows - _PADDING < count <= rows


def _checked(folder: Path, given: Path, rows: int) -> Path:
    remedy = Text.of(
        "cogvlm.words_named",
        "Name the folder that holds tokenizer.model of {name}, or that file.",
        name=_VICUNA,
    )
    file = tokenizer_file(given)
    if file is None:
        detail = Text.of(
            "cogvlm.no_words",
            "{place}, which was named as its tokenizer, holds neither tokenizer.model nor tokenizer.json.",
            place=shown_name(given.name or str(given)),
        )
        raise ModelUnsupported(path=str(folder), detail=detail, suggestion=remedy)
    count = _count(file) if file.suffix == ".model" else None
    if count is not None and count > rows:
        detail = Text.of(
            "cogvlm.foreign_words",
            "The tokenizer in {place} belongs to another model: it has {count:count} words, and this one "
            "knows {rows:count}.",
            place=shown_name(file.parent.name),
            count=count,
            rows=rows,
        )
        raise ModelUnsupported(path=str(folder), detail=detail, suggestion=remedy)
    return given


def _count(file: Path) -> int | None:
    """How many words SentencePiece's own `file` holds; None where it isn't one, or can't be read."""
    try:
        return count_pieces(file)
    except OSError:
        return None
