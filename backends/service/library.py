"""The models on this machine: listed, and read once for as long as their files don't change."""

from __future__ import annotations

import threading
from pathlib import Path

from backends.conversion.offer import offers
from backends.conversion.types import Offers
from backends.errors import SnugError
from backends.hardware.llama_build import llama_version
from backends.models.catalog import entries, find, locate, resolve
from backends.models.identify import identify
from backends.models.originals.leaning import leans_on
from backends.models.types import Companions, ModelEntry, ModelInfo
from backends.placement.types import Overrides
from backends.settings import Settings

# What a comparison of layouts chose; and all that conversions leave.
_NOTED = ".json"
_MADE = frozenset({".gguf", _NOTED})
_Stamp = tuple[tuple[str, int, int], ...]
_NOTHING = Overrides()


class Library:
    """Methods may be called from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._known: dict[tuple[Path, Companions], tuple[_Stamp, ModelInfo]] = {}
        self._leaning: dict[Path, tuple[_Stamp, tuple[str, ...]]] = {}
        self._offers: dict[Path, tuple[ModelInfo, object, Offers]] = {}

    def models(self) -> tuple[ModelEntry, ...]:
        """What the dropdown offers."""
        return entries(self._settings)

    def inspect(self, model: str, named: Overrides = _NOTHING) -> ModelInfo:
        """Read a model's headers, again only when a file of its folder, or of what it leans on, changed.

        `named` has the base, vision tower, tokenizer and template that a person named. Raises ModelNotFound,
        ModelDamaged or ModelUnsupported.
        """
        path = resolve(model, self._settings)
        companions = Companions(
            base=self._companion(named.base),
            vision_tower=self._companion(named.vision_tower),
            tokenizer=self._companion(named.tokenizer),
            template=named.template,
        )
        with self._lock:
            known = self._known.get((path, companions))
        if known is not None and known[0] == _stamps(path, known[1]):
            return known[1]
        info = identify(path, companions=companions, elsewhere=lambda name: find(name, self._settings))
        with self._lock:
            self._known[path, companions] = (_stamps(path, info), info)
        return info

    def _companion(self, name: str | None) -> Path | None:
        return locate(name, self._settings) if name is not None else None

    def leans_on(self, model: str) -> tuple[str, ...]:
        """What can be named beside it, as fields of Overrides (`base` of a LoRA), found or not."""
        try:
            path = resolve(model, self._settings)
        except SnugError:
            return ()
        if not path.is_dir():
            return ()
        stamp = _stamp(path)
        with self._lock:
            known = self._leaning.get(path)
        if known is None or known[0] != stamp:
            known = (stamp, leans_on(path))
            with self._lock:
                self._leaning[path] = known
        return known[1]

    def offers(self, model: str, named: Overrides = _NOTHING) -> Offers:
        """What the model can be converted to for llama.cpp, and what of it is ready. Raises as `inspect`.

        Worked out again only when a file of the model, or the folder of converted files, has changed.
        """
        info = self.inspect(model, named)
        library, there = llama_version(), _made(self._settings.converted)
        with self._lock:
            known = self._offers.get(info.path)
        if known is not None and known[0] is info and known[1] == (library, there):
            return known[2]
        found = offers(info, self._settings.converted, library=library or "")
        with self._lock:
            self._offers[info.path] = (info, (library, there), found)
        return found

    def stamp(self, model: str) -> object:
        """Something that differs once a file of the model has changed; empty where there is no such model."""
        try:
            return _stamp(resolve(model, self._settings))
        except SnugError:
            return ()


def _stamps(path: Path, info: ModelInfo) -> _Stamp:
    """The stamp of a model, and of what it leans on."""
    leant_on = (info.companions.base, info.companions.vision_tower, info.companions.tokenizer)
    return _stamp(path) + tuple(entry for other in leant_on if other for entry in _stamp(other))


def _stamp(path: Path) -> _Stamp:
    """Names, sizes and times of what a model is made of; empty when it can't be read."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else _with_parts(path)
        return tuple((file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files)
    except OSError:
        return ()


def _made(folder: Path) -> tuple[tuple[str, int], ...]:
    """Names of the files that conversions left, which appear whole, and times of what was noted."""
    try:
        names = [path for path in folder.iterdir() if path.suffix in _MADE]
        times = [path.stat().st_mtime_ns if path.suffix == _NOTED else 0 for path in names]
    except OSError:
        return ()
    return tuple(sorted(zip((path.name for path in names), times, strict=True)))


def _with_parts(file: Path) -> list[Path]:
    """A file, and those beside it that may be parts of its model (split GGUF sets, mmproj)."""
    return sorted({file, *file.parent.glob("*.gguf")})
