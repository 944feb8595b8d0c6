"""The converted files that are kept: how many, which may go, and what removing them frees."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from backends.conversion.cache import Entry, entries, source_of, targets, trim
from backends.conversion.types import Request
from backends.errors import SnugError
from backends.placement.types import Plan
from backends.settings import Settings

_REPAIRED, _PICTURES = "-repaired-", "-mmproj-"
LOG = logging.getLogger("snug.service")


@dataclass(frozen=True, slots=True)
class ConvertedUsage:
    """What `folder` holds: bytes in files of so many models; `used_bytes` belong to the loaded one."""

    folder: Path
    nbytes: int
    models: int
    used_bytes: int
    limit_bytes: int

    @property
    def removable_bytes(self) -> int:
        """What clearing frees."""
        return self.nbytes - self.used_bytes


class ConvertedFiles:
    """`loaded` gives the process that holds a model, or is loading one, and its plan, as the host does.

    Methods may be called from any thread. A file of that plan's model is never removed: it is mapped into
    memory, or about to be.
    """

    def __init__(self, settings: Settings, loaded: Callable[[], tuple[int, Plan] | None]) -> None:
        self._folder = settings.converted
        self._limit = settings.converted_limit_bytes
        self._loaded = loaded
        self._lock = threading.Lock()
        # By the model's path, as its files were when it was loaded: they may have changed since.
        self._opened: dict[str, set[Path]] = {}

    def opens(self, plan: Plan) -> None:
        """Note what a load of `plan` will open."""
        if plan.conversion is None:
            return
        try:
            named = targets(Request(Path(plan.model_path), self._folder, kind=plan.conversion.kind))
        except SnugError:
            return  # the load will say what is wrong
        with self._lock:
            self._opened.setdefault(plan.model_path, set()).add(named.text)

    def usage(self) -> ConvertedUsage:
        """What is kept now."""
        kept = entries(self._folder)
        used = self._used(kept)
        return ConvertedUsage(
            self._folder,
            nbytes=sum(entry.nbytes for entry in kept),
            models=len({source_of(entry) for entry in kept}),
            used_bytes=sum(entry.nbytes for entry in kept if entry.path in used),
            limit_bytes=self._limit,
        )

    def clear(self) -> int:
        """Remove everything that is not in use; returns the bytes that came free."""
        return self._keep(0)

    def loaded(self, plan: Plan) -> None:
        """A load of `plan` has ended well: remove what was used longest ago, beyond the limit."""
        if plan.conversion is not None:
            self.opens(plan)
            self._keep(self._limit)

    def _keep(self, limit_bytes: int) -> int:
        try:
            freed = trim(self._folder, limit_bytes, self._used(entries(self._folder)))
        except OSError:
            LOG.warning("The converted files could not be looked through.", exc_info=True)
            return 0
        if freed:
            LOG.info("%d bytes of converted files were removed.", freed)
        return freed

    def _used(self, kept: Collection[Entry]) -> frozenset[Path]:
        _, plan = self._loaded() or (0, None)
        if plan is None:
            return frozenset()
        with self._lock:
            texts = frozenset(self._opened.get(plan.model_path, ()))
        if plan.conversion is not None:  # those of another precision are not in use any more
            texts = frozenset(path for path in texts if path.stem.endswith(f"-{plan.conversion.kind.value}"))
        sources = {source_of(Entry(path, 0, 0.0)) for path in texts}
        opened, of_files = Path(plan.model_path), plan.format == "gguf"
        # Only the engine knows which repaired picture part belongs to a GGUF file, and which layout of a
        # converted one is used.
        return frozenset(
            entry.path
            for entry in kept
            if entry.path in texts
            or entry.path == opened
            or (_PICTURES in entry.path.name and source_of(entry) in sources)
            or (of_files and _REPAIRED in entry.path.name)
        )
