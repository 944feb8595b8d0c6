"""Which matrices bitsandbytes leaves alone because the family gives them a class of its own.

transformers puts quantized layers in the place of `nn.Linear` itself. A class derived from it stays as it is
(all of Falcon's matrices), and so do those that multiply by a parameter of their own (the routers of most
mixtures of experts) and what a family keeps in float32. Which these are stands in the family's source, the
only place that says so.
"""

from __future__ import annotations

import re
from functools import lru_cache

from backends.models.defaults import source_folder

_DERIVED = re.compile(r"^class (\w+)\((?:torch\.)?(?:nn\.)?Linear\)", re.MULTILINE)
_CLASS = re.compile(r"class (\w+)\(")
_OWN = "\n        self.weight = nn.Parameter("
_IN_FLOAT32 = re.compile(r"^    _keep_in_fp32_modules = \[(.*?)\]", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"\"([\w.]+)\"")
_MADE = r"self\.(\w+)\s*=\s*(?:{names})\("


@lru_cache(maxsize=64)
def kept_linears(model_type: str) -> frozenset[str]:
    """Ends of the paths of such layers, in all of the family's modules; none for unknown types."""
    found: set[str] = set()
    for source in _sources(model_type):
        if names := [*_DERIVED.findall(source), *_multiplying(source)]:
            found.update(re.findall(_MADE.format(names="|".join(names)), source))
        found.update(name for names in _IN_FLOAT32.findall(source) for name in _NAME.findall(names))
    return frozenset(found)


@lru_cache(maxsize=64)
def are_turned(model_type: str) -> bool:
    """Whether matrices are stored as [inputs, outputs], as GPT-2's are, and not by their rows of outputs."""
    return any("= Conv1D(" in source for source in _sources(model_type))


@lru_cache(maxsize=2)
def _sources(model_type: str) -> tuple[str, ...]:
    folder = source_folder(model_type)
    paths = [] if folder is None else sorted(folder.glob("modeling_*.py"))
    return tuple(path.read_text(encoding="utf-8") for path in paths)


def _multiplying(source: str) -> set[str]:
    """Classes with a weight of their own; those of most norms are no matrices anyway."""
    found: set[str] = set()
    place = source.find(_OWN)
    while place >= 0:
        start = _CLASS.match(source, source.rfind("\nclass ", 0, place) + 1)
        if start is not None:
            found.add(start[1])
        place = source.find(_OWN, place + 1)
    return found
