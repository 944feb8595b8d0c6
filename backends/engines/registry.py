"""Engines by name. Nothing heavy is imported before an engine is asked for."""

from __future__ import annotations

import importlib

from backends.engines.base import Engine
from backends.errors import PackageMissing, SettingInvalid
from backends.text import Text

_ENGINES = {
    "transformers": ("backends.engines.transformers_engine", "TransformersEngine"),
    "llamacpp": ("backends.engines.llamacpp_engine", "LlamaCppEngine"),
    "fake": ("backends.engines.fake", "FakeEngine"),
}


def create(name: str) -> Engine:
    """Make the engine `name`. Raises SettingInvalid (no such engine) or PackageMissing."""
    module, kind = _find(name)
    try:
        engine: Engine = getattr(importlib.import_module(module), kind)()
    except ImportError as error:
        raise _missing(error) from error
    return engine


def warm_up(name: str) -> None:
    """Import what the engine `name` needs, so that a later load starts at once. Same errors as `create`."""
    module, _ = _find(name)
    try:
        imported = importlib.import_module(module)
        getattr(imported, "warm_up", lambda: None)()
    except ImportError as error:
        raise _missing(error) from error


def _find(name: str) -> tuple[str, str]:
    if name not in _ENGINES:
        known = ", ".join(sorted(set(_ENGINES) - {"fake"}))
        raise SettingInvalid(
            name="engine",
            value=name,
            detail=Text("engine.no_such", "There is no such engine here."),
            suggestion=Text.of("check.choose", "Choose one of {choices}.", choices=known),
        )
    return _ENGINES[name]


def _missing(error: ImportError) -> PackageMissing:
    package = (error.name or "a package").split(".")[0]
    return PackageMissing(
        package=package,
        detail=Text.of("engine.import_failed", "Importing it failed: {kind}.", kind=type(error).__name__),
    )
