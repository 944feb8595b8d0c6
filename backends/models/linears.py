"""Which layers bitsandbytes leaves alone because the family gives them a class of its own.

transformers puts quantized layers in the place of `nn.Linear` itself. A class derived from it stays as it is:
all of Falcon's matrices, and the routers of some mixtures of experts. Which these are stands in the family's
source, the only place that says so.
"""

from __future__ import annotations

import re
from functools import lru_cache

from backends.models.defaults import source_folder

_DERIVED = re.compile(r"^class (\w+)\((?:torch\.)?(?:nn\.)?Linear\)", re.MULTILINE)
_MADE = r"self\.(\w+)\s*=\s*(?:{names})\("


@lru_cache(maxsize=64)
def kept_linears(model_type: str) -> frozenset[str]:
    """Names of attributes that hold such layers, in all of the family's modules; none for unknown types."""
    folder = source_folder(model_type)
    if folder is None:
        return frozenset()
    found: set[str] = set()
    for path in sorted(folder.glob("modeling_*.py")):
        source = path.read_text(encoding="utf-8")
        if names := _DERIVED.findall(source):
            found.update(re.findall(_MADE.format(names="|".join(names)), source))
    return frozenset(found)
