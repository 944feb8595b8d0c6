"""Which part of a model a LoRA's tensor belongs to, whatever version of transformers it was trained with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from backends.models.adapter import tail_of
from backends.models.naming import is_projector, is_vision
from backends.models.tensor_names import tensor_names


class Places:
    """The tensors of a base model, to be found by the path that PEFT saw them under.

    `names` maps the base's tensors from their names in the files to those in the loaded model.
    """

    def __init__(self, names: Mapping[str, str], config: Mapping[str, Any], family: str) -> None:
        self._stored = names
        self._loaded = frozenset(names.values())
        self._config, self._family = config, family
        self._tails: dict[str, list[str]] = {}
        for name in sorted(self._loaded):
            self._tails.setdefault(_tail(name), []).append(name)

    def find(self, paths: Iterable[str]) -> Mapping[str, Sequence[str]]:
        """For each tensor's path as PEFT saw it the loaded names that it can mean; one where it is clear.

        First the path itself counts, then what transformers' rules make of it today. Else the part from the
        numbered block on decides among those on the same side: vision, projector or language.
        """
        paths = tuple(paths)
        renamed = tensor_names(paths, self._config, self._family)
        return {path: self._candidates(path, renamed[path]) for path in paths}

    def _candidates(self, path: str, renamed: str) -> Sequence[str]:
        if path in self._loaded:
            return (path,)
        if path in self._stored:
            return (self._stored[path],)
        if renamed in self._loaded:
            return (renamed,)
        return [name for name in self._tails.get(_tail(path), ()) if _side(name) == _side(path)]


def _tail(name: str) -> str:
    """A tensor's name from the numbered block on; without a block its module's own name and what it is."""
    module, _, leaf = name.rpartition(".")
    return f"{tail_of(module)}.{leaf}"


def _side(name: str) -> str:
    """`vision`, `projector` or `language`, by the words above the numbered block."""
    above = name.removesuffix(_tail(name)).split(".")
    if any(map(is_projector, above)):
        return "projector"
    return "vision" if any(map(is_vision, above)) else "language"
