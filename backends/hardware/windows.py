"""What only Windows is asked: registry texts, processor flags and the commit limit. Elsewhere: nothing."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Collection


def registry_text(key: str, value: str) -> str | None:
    """Read a text below HKEY_LOCAL_MACHINE; None when it is not there."""
    if sys.platform == "win32":
        import winreg

        with contextlib.suppress(OSError), winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as opened:
            return str(winreg.QueryValueEx(opened, value)[0]).strip()
    return None


def processor_flags(asked: Collection[int]) -> frozenset[int]:
    """Return those numbers of `asked` (PF_... of winnt.h) that the processor and Windows support."""
    if sys.platform == "win32":
        present = ctypes.windll.kernel32.IsProcessorFeaturePresent
        return frozenset(flag for flag in asked if present(flag))
    return frozenset()


class MemoryStatusEx(ctypes.Structure):
    """MEMORYSTATUSEX of sysinfoapi.h."""

    _fields_ = [
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total_physical", ctypes.c_uint64),
        ("free_physical", ctypes.c_uint64),
        ("total_commit", ctypes.c_uint64),
        ("free_commit", ctypes.c_uint64),
        ("total_virtual", ctypes.c_uint64),
        ("free_virtual", ctypes.c_uint64),
        ("free_extended_virtual", ctypes.c_uint64),
    ]


def commit() -> tuple[int, int] | None:
    """RAM + page file in bytes, which is what all programs together may ask for, and what is left of it."""
    if sys.platform == "win32":
        status = MemoryStatusEx(length=ctypes.sizeof(MemoryStatusEx))
        if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            return int(status.total_commit), int(status.free_commit)
    return None
