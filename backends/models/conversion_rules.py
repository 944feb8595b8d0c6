"""The text of transformers' rules for turning a file's tensors into a model's, by model type or class.

The rules are lists of calls such as `WeightRenaming(source, target)` in the library's source, cut out of it
here: importing them brings torch.
"""

from __future__ import annotations

import re
from functools import lru_cache

from backends.models.registry import package_folder

# A family that has the rules of another one.
_SAME_AS = re.compile(r"^    \"([\w.-]+)\": \"([\w.-]+)\",$", re.MULTILINE)
# Where a family's rules are written: in the table, and below it, anew or in addition.
_IN_TABLE = r"\n        \"{key}\": \[\n(.*?)\n        \],"
_BELOW = r"\n    mapping\[\"{key}\"\] \+?= \[\n(.*?)\n    \]"
_COPIED = r"\n    mapping\[\"{key}\"\] \+?= mapping\[\"([\w.-]+)\"\]\.copy\(\)"


@lru_cache(maxsize=128)
def written_rules(key: str) -> tuple[str, ...]:
    """The lists of rules of a model type or class, each as it is written between its brackets."""
    source, escaped = _source(), re.escape(key)
    found = [
        text for other in re.findall(_COPIED.format(key=escaped), source) for text in written_rules(other)
    ]
    for form in (_IN_TABLE, _BELOW):
        found += re.findall(form.format(key=escaped), source, re.DOTALL)
    twin = _twins().get(key)
    return tuple(found) if found or twin is None else written_rules(twin)


def rules_are_known() -> bool:
    """Whether the installed version keeps its rules where they are looked for."""
    return bool(_source())


@lru_cache(maxsize=1)
def _twins() -> dict[str, str]:
    return dict(_SAME_AS.findall(_source().partition("\ndef ")[0]))


@lru_cache(maxsize=1)
def _source() -> str:
    root = package_folder("transformers")
    path = root / "conversion_mapping.py" if root else None
    return path.read_text(encoding="utf-8") if path is not None and path.is_file() else ""
