"""Which model types the installed transformers can run, read from its source without importing it."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_ENTRY = re.compile(r"\(\s*\"([\w.-]+)\"\s*,")


@dataclass(frozen=True, slots=True)
class KnownTypes:
    """Model types by what they do: `chat` answers about pictures, `text` continues text.

    `masked` types fill gaps in a text (BERT); some of them continue text, too, in a class of their own.
    """

    chat: frozenset[str]
    text: frozenset[str]
    other: frozenset[str]
    masked: frozenset[str] = frozenset()

    def __contains__(self, model_type: object) -> bool:
        return model_type in self.chat or model_type in self.text or model_type in self.other


@lru_cache(maxsize=1)
def known_types() -> KnownTypes:
    """Read transformers' own tables of auto classes (2 ms; importing them would take seconds).

    When the installed version keeps them elsewhere, every set is empty and nothing is refused here.
    """
    root = package_folder("transformers")
    table = root / "models" / "auto" / "modeling_auto.py" if root else None
    if table is None or not table.is_file():
        return KnownTypes(frozenset(), frozenset(), frozenset())
    source = table.read_text(encoding="utf-8")
    chat = _section(source, "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES")
    text = _section(source, "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES")
    masked = _section(source, "MODEL_FOR_MASKED_LM_MAPPING_NAMES")
    return KnownTypes(chat, text, _section(source, "MODEL_MAPPING_NAMES") - chat - text, masked)


def package_folder(package: str) -> Path | None:
    """Return where `package` is installed, without importing it."""
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def _section(source: str, name: str) -> frozenset[str]:
    start = source.find(f"\n{name} = ")
    if start < 0:
        return frozenset()
    end = source.find("\n)\n", start)
    return frozenset(_ENTRY.findall(source, start, end if end > 0 else len(source)))
