"""Finds every translatable sentence of the program by reading its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.error_classes import all_errors

ROOT = Path(__file__).resolve().parents[2]


def sentences() -> dict[str, str]:
    """code -> English template: of each `Text(...)` and `Text.of(...)`, and of each error's three fields."""
    found = dict(_in_source())
    for kind in all_errors():
        for field in ("what", "why", "remedy"):
            found[f"error.{kind.code}.{field}"] = getattr(kind, field)
    return found


def _in_source() -> Iterator[tuple[str, str]]:
    for folder in ("backends", "ui"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and _is_text(node.func):
                    literal = [_literal(argument) for argument in node.args[:2]]
                    if len(literal) == 2 and literal[0] is not None and literal[1] is not None:
                        yield literal[0], literal[1]


def _is_text(function: ast.expr) -> bool:
    if isinstance(function, ast.Attribute):
        return function.attr == "of" and isinstance(function.value, ast.Name) and function.value.id == "Text"
    return isinstance(function, ast.Name) and function.id == "Text"


def _literal(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def used_keys() -> dict[str, str]:
    """Keys of the page's own words with the file that says them: `say("key")`, and f-strings' prefixes."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "ui").rglob("*.py")):
        if "setup" in path.relative_to(ROOT / "ui").parts[:-1]:
            continue  # the launcher runs before anything is installed and speaks plain English
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "say":
                first = _literal(node.args[0]) if node.args else None
                if first is not None:
                    found[first] = path.name
    return found
