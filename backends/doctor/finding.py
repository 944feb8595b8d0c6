"""What one check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backends.text import Text

Level = Literal["ok", "warning", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`warning`: Snug works, less well than it could; `broken`: it does not. Both have a remedy."""

    level: Level
    title: Text
    detail: Text
    remedy: Text | None = None
