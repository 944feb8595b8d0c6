"""Imports xllamacpp, after making sure that this processor can run it."""

from __future__ import annotations

import importlib
import os
import platform
import secrets
from collections.abc import Collection
from typing import Any

from backends.errors import CpuUnsupported
from backends.hardware import cpu

# What the published x86 builds are compiled with; without it the process ends by an illegal instruction.
_NEEDED = ("avx2", "fma", "f16c")
_X86 = frozenset({"x86_64", "amd64", "i386", "i686"})
_MARKER = "LLAMA_MEDIA_MARKER"


def load_library() -> Any:
    """The module xllamacpp. Raises CpuUnsupported before it is imported; ImportError where it is missing."""
    machine = platform.machine().lower()
    if machine in _X86:
        check_features(cpu.read()[0].features)
    # Stands for a picture within a prompt. The library reads it once; by chance nobody can type it.
    os.environ.setdefault(_MARKER, f"<__picture_{secrets.token_hex(12)}__>")
    return importlib.import_module("xllamacpp")


def check_features(features: Collection[str]) -> None:
    """Raise CpuUnsupported when an x86 processor is known to lack what the builds need."""
    lacking = [name for name in _NEEDED if name not in features]
    if features and lacking:
        raise CpuUnsupported(features=", ".join(name.upper() for name in lacking))
