"""Every class of the exception tree, for the tests of translations and documentation."""

from __future__ import annotations

from backends.errors import SnugError


def all_errors() -> tuple[type[SnugError], ...]:
    """Every class of the tree, by code."""
    found: list[type[SnugError]] = []
    stack: list[type[SnugError]] = [SnugError]
    while stack:
        kind = stack.pop()
        found.append(kind)
        stack.extend(kind.__subclasses__())
    return tuple(sorted(found, key=lambda kind: kind.code))
