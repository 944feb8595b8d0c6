"""Which models are on this machine, and what a person means by a model's name."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from backends.errors import ModelNotFound, StarterMissing
from backends.models.gguf_files import models_in
from backends.models.types import ModelEntry
from backends.settings import Settings
from backends.text import Text

STARTER = "starter"
# Weights as they were published before .safetensors: whole models, and what is added to one.
_WEIGHTS = frozenset(
    {"pytorch_model.bin", "pytorch_model.bin.index.json", "mm_projector.bin", "adapter_model.bin"}
)
_PARTS = frozenset({"config.json", "tokenizer.model", "tokenizer.json"})


def resolve(model: str, settings: Settings, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder that `model` means.

    `model` is `starter`, a path, the name of a folder in one of the model folders, or a Hub id that the
    Hub cache holds. Raises ModelNotFound with the nearest known names.
    """
    wanted = model.strip().strip('"')
    if wanted == STARTER:
        if not (settings.starter / "config.json").is_file():
            raise StarterMissing(path=str(settings.starter))
        return settings.starter
    if not wanted:
        raise ModelNotFound(path='""', detail=Text("catalog.unnamed", "No model was named."))
    try:
        path = Path(wanted).expanduser()
        if path.exists():
            # The Hub's cache links files to blobs that lie without a name, away from what belongs to them.
            return path.absolute() if path.is_file() else path.resolve()
        known = _known(settings, environ, gguf=True)
    except (OSError, RuntimeError, ValueError) as error:
        detail = Text("catalog.invalid_path", "That is not a valid path.")
        raise ModelNotFound(path=wanted, detail=detail) from error
    if wanted in known:
        return known[wanted]
    near = difflib.get_close_matches(wanted, [STARTER, *known], n=3, cutoff=0.5)
    if near:
        similar = Text.of(
            "catalog.similar",
            "There is no such folder, and no model of that name in the model folders or the Hub cache. "
            "Did you mean {names}?",
            names=", ".join(near),
        )
        raise ModelNotFound(path=wanted, detail=similar)
    unknown = Text(
        "catalog.unknown",
        "There is no such folder, and no model of that name in the model folders or the Hub cache.",
    )
    raise ModelNotFound(path=wanted, detail=unknown)


def locate(name: str, settings: Settings, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder or file that `name` means: what a checkpoint leans on, which need not be a model.

    Raises ModelNotFound.
    """
    try:
        path = Path(name.strip().strip('"')).expanduser()
        if path.exists():
            return path.resolve()
    except (OSError, RuntimeError, ValueError):
        pass  # no path: perhaps a name
    found = find(name, settings, environ)
    return found if found is not None else resolve(name, settings, environ)


def find(name: str, settings: Settings, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder of the model `name` in the model folders, then in the Hub cache; None without one.

    `name` may be a Hub id, or a path of the machine that it was written on: its last part is looked for, too.
    Vision towers and tokenizers, which are no models to talk with, are found as well.
    """
    known, hub = _known(settings, environ, gguf=False, whole=False), _hub_cache(environ)
    same = [other for other in known if _last(other) == _last(name)]
    nearest = min(same, key=lambda other: (hub in known[other].parents, other != name), default=None)
    return None if nearest is None else known[nearest]


def _last(name: str) -> str:
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2]


def entries(settings: Settings, environ: Mapping[str, str] = os.environ) -> tuple[ModelEntry, ...]:
    """List the dropdown's models: the starter, then the others by name; unreadable folders are left out."""
    found: list[ModelEntry] = []
    if (settings.starter / "config.json").is_file():
        found.append(ModelEntry(STARTER, "Starter", settings.starter))
    known = _known(settings, environ, gguf=True)
    found += [ModelEntry(str(path), name, path) for name, path in sorted(known.items(), key=_by_name)]
    return tuple(found)


def _by_name(item: tuple[str, Path]) -> tuple[str, str]:
    return item[0].casefold(), item[0]


def _known(
    settings: Settings, environ: Mapping[str, str], *, gguf: bool, whole: bool = True
) -> dict[str, Path]:
    """Every model by the name a person would use; earlier folders win.

    `gguf` counts folders of GGUF files, too, and such files that lie in a model folder themselves; without
    `whole`, parts of models count as well.
    """
    is_one = partial(_is_model, gguf=gguf) if whole else _is_part
    known: dict[str, Path] = {}
    for folder in settings.model_folders:
        for path in _folders(folder):
            if is_one(path):
                _note(known, path.name, path)
            if not _is_model(path, gguf=False):
                # One level more: publisher/model.
                for inner in _folders(path):
                    if is_one(inner):
                        _note(known, f"{path.name}/{inner.name}", inner)
        for name, file in models_in(folder).items() if gguf else ():
            known.setdefault(name, file)
    for name, path in _hub_snapshots(_hub_cache(environ), is_one):
        known.setdefault(name, path)
    return known


def _note(known: dict[str, Path], name: str, folder: Path) -> None:
    """A folder by its name; one of several GGUF models by those of its models."""
    several = {} if _is_model(folder, gguf=False) else models_in(folder)
    if len(several) > 1:
        for model, file in several.items():
            known.setdefault(f"{name}/{model}", file)
    else:
        known.setdefault(name, folder)


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []


def _is_model(folder: Path, *, gguf: bool) -> bool:
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError:
        return False
    whole = "config.json" in names and any(
        name.endswith(".safetensors") or name in _WEIGHTS for name in names
    )
    return whole or (gguf and any(name.endswith(".gguf") for name in names))


def _is_part(folder: Path) -> bool:
    """Whether `folder` holds a model, or a part of one that others lean on."""
    try:
        return any(path.name in _PARTS for path in folder.iterdir())
    except OSError:
        return False


def _hub_cache(environ: Mapping[str, str]) -> Path:
    """Where huggingface_hub keeps downloads, by its documented variables."""
    if cache := environ.get("HF_HUB_CACHE"):
        return Path(cache)
    if home := environ.get("HF_HOME"):
        return Path(home) / "hub"
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "huggingface" / "hub"


def _hub_snapshots(cache: Path, is_one: Callable[[Path], bool]) -> Iterator[tuple[str, Path]]:
    """Yield (owner/name, newest usable snapshot folder); the branch `main` is preferred."""
    for repo in _folders(cache):
        if not repo.name.startswith("models--"):
            continue
        snapshots = [path for path in _folders(repo / "snapshots") if is_one(path)]
        if not snapshots:
            continue
        main = _revision(repo / "refs" / "main")
        chosen = next((path for path in snapshots if path.name == main), snapshots[-1])
        yield repo.name.removeprefix("models--").replace("--", "/", 1), chosen


def _revision(ref: Path) -> str:
    try:
        return ref.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
