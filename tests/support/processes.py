"""What tests of child processes share."""

from __future__ import annotations

import psutil

from backends.messages import Message, Role, TextPart


def children() -> set[int]:
    """Our child processes, without multiprocessing's resource tracker (it lives as long as we do)."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        try:
            if "resource_tracker" not in " ".join(child.cmdline()):
                found.add(child.pid)
        except psutil.Error:
            continue
    return found


def ask(text: str) -> tuple[Message, ...]:
    """A conversation of one question."""
    return (Message(Role.USER, (TextPart(text),)),)
