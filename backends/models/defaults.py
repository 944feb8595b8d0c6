"""Fills in what a config.json leaves to its class: sizes, windows and the kinds of its layers.

Published configs state only what differs from the defaults of their class, and the class derives the rest:
Gemma 3's file says neither how many heads it has nor which of its layers see a window only. The classes are
transformers' own. They are read from their source and rebuilt without their base class, since importing
transformers takes seconds and brings torch along. Where a class can't be rebuilt, the config stays as it is.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import copy
import inspect
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from backends.models.registry import package_folder

_ENTRY = re.compile(r"\"([\w.-]+)\"\s*[,:]\s*\"(\w+)\"")
_PLAIN = (int, float, str, bool, list, tuple, dict, type(None))
_DECORATORS = frozenset({"property", "staticmethod", "classmethod", "setter"})
_BUILTINS = (
    *(abs, all, any, bool, dict, enumerate, float, getattr, hasattr, int, isinstance, len, list, map, max),
    *(
        min,
        property,
        range,
        reversed,
        round,
        set,
        setattr,
        sorted,
        staticmethod,
        classmethod,
        str,
        sum,
        super,
    ),
    *(tuple, type, zip, next, object, ValueError, TypeError, KeyError),
)
# What transformers calls kinds of layers that older files name otherwise.
_LAYER_TYPES = {
    "mamba": "linear_attention",
    "attention": "full_attention",
    "deepseek_sparse_attention": "indexed_attention",
    "qwen_sparse_attention": "indexed_attention",
}
# No model has as many; the files will show how many there are.
_MOST_LAYERS = 4096
_UNTOLD = object()
# Methods of the base class that judge what stands in a config, or bring positions' settings into one form.
_CHECKS = ("validate_", "standardize_", "convert_")
# Derived by the class as properties, beside its fields.
_DERIVED = ("layer_types", "kv_sharing_modes", "layers_block_type")


class _Anything:
    """Stands for whatever the source uses and is not needed here: loggers, other modules, decorators."""

    def __getattr__(self, name: str) -> _Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: object, **__: object) -> _Anything:
        return self

    def __getitem__(self, _: object) -> _Anything:
        return self


class _Spec:
    """A part of a config: its class, or the model type that stands for it, and what it starts from."""

    def __init__(
        self,
        config_class: object = None,
        model_type: str | None = None,
        init_kwargs: dict[str, Any] | None = None,
        optional: bool = False,
    ) -> None:
        self.kind = config_class if isinstance(config_class, type) else None
        self.model_type = model_type
        self.initial = init_kwargs or {}
        self.optional = optional


class _Config:
    """In place of transformers' PreTrainedConfig: keeps what its subclasses give it."""

    attribute_map: Mapping[str, str] = {}

    def __getattr__(self, name: str) -> object:
        if name.startswith(_CHECKS):
            return _Anything()
        other = type(self).attribute_map.get(name)
        if other is None or other == name:
            raise AttributeError(name)
        return getattr(self, other)

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, type(self).attribute_map.get(name, name), value)

    def __post_init__(self, **kwargs: object) -> None:
        for key, value in kwargs.items():
            try:
                setattr(self, self.attribute_map.get(key, key), value)
            except AttributeError:  # a property that can't be set
                continue


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return `config` with the values that its class gives to what it leaves out, in all its parts.

    Nothing stated is changed, except where the class itself does (a window that is off becomes None).
    """
    kind = _class_of(config.get("model_type"))
    return _completed(config, kind) if kind is not None else dict(config)


def model_class(model_type: object) -> str:
    """What transformers calls the bare model of a type, by its config's class; empty for unknown types."""
    name = _tables()[1].get(model_type) if isinstance(model_type, str) else None
    return f"{name.removesuffix('Config')}Model" if name else ""


def source_folder(model_type: object) -> Path | None:
    """Where transformers keeps the source of a model type; None for unknown types."""
    folders, names = _tables()
    root = package_folder("transformers")
    if root is None or not isinstance(model_type, str) or model_type not in names:
        return None
    twin = next((kind for kind, name in names.items() if name == names[model_type]), model_type)
    return root / "models" / (folders.get(model_type) or folders.get(twin) or twin.replace("-", "_"))


def remapped(layer_types: object) -> list[str] | None:
    """The kinds of layers by transformers' present names; None for anything else than a list of names."""
    if not isinstance(layer_types, list) or not all(isinstance(kind, str) for kind in layer_types):
        return None
    return [_LAYER_TYPES.get(str(kind), str(kind)) for kind in layer_types]


def _completed(config: Mapping[str, Any], kind: type[_Config]) -> dict[str, Any]:
    found = dict(config) | _values(config, kind)
    parts = getattr(kind, "sub_configs_defaults", None) or getattr(kind, "sub_configs", None)
    for name, part in (parts if isinstance(parts, dict) else {}).items():
        spec = part if isinstance(part, _Spec) else _Spec(part)
        given = config.get(name)
        if isinstance(given, dict):
            inner = spec.kind or _class_of(given.get("model_type") or spec.model_type)
            found[name] = _completed({**spec.initial, **given}, inner) if inner else given
        elif name in config or spec.optional:
            found[name] = given  # stated to be absent, or not needed
        else:
            inner = spec.kind or _class_of(spec.model_type)
            found[name] = (
                _completed({**spec.initial, **_flat(config, name, kind, inner)}, inner) if inner else given
            )
    return found


def _flat(config: Mapping[str, Any], part: str, outer: type[_Config], inner: type[_Config]) -> dict[str, Any]:
    """What `config` states of its decoder beside its other parts, as Qwen2-VL's published files do."""
    if part != "text_config":
        return {}
    apart = _fields(inner) - _fields(outer)
    return {key: value for key, value in config.items() if inner.attribute_map.get(key, key) in apart}


def _fields(kind: type[_Config]) -> set[str]:
    return {name for base in kind.__mro__ for name in inspect.get_annotations(base)}


def _values(config: Mapping[str, Any], kind: type[_Config]) -> dict[str, Any]:
    """The fields of an instance of `kind` made from `config`, by the class's names and the common ones."""
    counts = [value for key, value in config.items() if "layers" in key and isinstance(value, int)]
    if max(counts, default=0) > _MOST_LAYERS:
        return {}  # its class would make a list of so many kinds
    names = [name for base in reversed(kind.__mro__) for name in inspect.get_annotations(base)]
    made = kind()
    for name in names:
        if not isinstance(default := getattr(kind, name, None), property):
            setattr(made, name, copy.deepcopy(default))
    others: dict[str, Any] = {}
    for key, value in config.items():
        if kind.attribute_map.get(key, key) in names:
            setattr(made, key, copy.deepcopy(value))
        else:
            others[key] = copy.deepcopy(value)
    try:
        made.__post_init__(**others)
    except Exception:  # noqa: BLE001 - whatever its source does here, the fields are there as they were set
        vars(made).setdefault("incomplete", True)
    told = {name: _told(made, name) for name in (*names, *vars(made), *_DERIVED)}
    found = {name: value for name, value in told.items() if value is not _UNTOLD}
    for alias, name in kind.attribute_map.items():
        found.setdefault(alias, found.get(name))
    found.setdefault("model_type", getattr(kind, "model_type", None))
    if (layers := remapped(found.get("layer_types"))) is not None:
        found["layer_types"] = layers
    return {name: value for name, value in found.items() if isinstance(value, _PLAIN)}


def _told(made: _Config, name: str) -> object:
    """An attribute, some of which are derived by properties; `_UNTOLD` where that fails."""
    try:
        return getattr(made, name)
    except Exception:  # noqa: BLE001 - as above
        return _UNTOLD


def _class_of(model_type: object) -> type[_Config] | None:
    """The config class of a model type, rebuilt from its source; None where there is none to read."""
    return _class_named(model_type) if isinstance(model_type, str) else None


@lru_cache(maxsize=64)
def _class_named(model_type: str) -> type[_Config] | None:
    folder = source_folder(model_type)
    found = _classes(folder).get(_tables()[1][model_type]) if folder is not None else None
    return found if isinstance(found, type) and issubclass(found, _Config) else None


@lru_cache(maxsize=1)
def _tables() -> tuple[dict[str, str], dict[str, str]]:
    """Model type -> folder where it is not the same, and model type -> name of the config's class."""
    root = package_folder("transformers")
    folders: dict[str, str] = {}
    names: dict[str, str] = {}
    for file in ("auto_mappings.py", "configuration_auto.py"):
        path = root / "models" / "auto" / file if root else None
        source = path.read_text(encoding="utf-8") if path and path.is_file() else ""
        for model_type, value in _ENTRY.findall(source):
            if value.endswith("Config"):
                names.setdefault(model_type, value)
            elif value.islower() and value.isidentifier():
                folders.setdefault(model_type, value)
    return folders, names


@lru_cache(maxsize=32)
def _classes(folder: Path) -> dict[str, Any]:
    """The classes of one family's configuration, by name."""
    files = sorted(folder.glob("configuration_*.py"))
    anything = _Anything()
    usual = {kind.__name__: kind for kind in _BUILTINS}
    known: dict[str, Any] = {
        "__builtins__": usual | {"__build_class__": builtins.__build_class__},
        "__name__": f"snug.{folder.name}",
        "PreTrainedConfig": _Config,
        "SubConfigSpec": _Spec,
        "AutoConfig": None,
        "remap_legacy_layer_types": lambda layer_types=None, **_: remapped(layer_types),
        "Sequence": Sequence,
        "copy": copy,
        "math": math,
        "logger": anything,
        "logging": anything,
        "CONFIG_MAPPING": anything,
    }
    sources = [path.read_text(encoding="utf-8") for path in files]
    for statement in [statement for source in sources for statement in ast.parse(source).body]:
        if isinstance(statement, ast.ClassDef):
            statement = _bare(statement, known)  # noqa: PLW2901 - the class without what can't be rebuilt
        elif not isinstance(statement, ast.Assign | ast.AnnAssign | ast.FunctionDef):
            continue
        _run(statement, known)
    return known


def _bare(definition: ast.ClassDef, known: dict[str, Any]) -> ast.ClassDef:
    """A class with its fields and methods only, without decorators and without bases that are not here."""
    inside = dict(known)
    body: list[ast.stmt] = []
    for statement in definition.body:
        if isinstance(statement, ast.FunctionDef):
            keep = all(_last_name(decorator) in _DECORATORS for decorator in statement.decorator_list)
        else:
            keep = isinstance(statement, ast.Assign | ast.AnnAssign) and _run(statement, inside)
        if keep:
            body.append(statement)
    bases: list[ast.expr] = [
        base for base in definition.bases if isinstance(base, ast.Name) and base.id in known
    ]
    if not bases:
        bases = [ast.Name("PreTrainedConfig", ast.Load())]
    return ast.ClassDef(definition.name, bases, [], body or [ast.Pass()], [])


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _run(statement: ast.stmt, known: dict[str, Any]) -> bool:
    """Run one statement of transformers' source in `known`; False when it needs what is not there."""
    module = ast.fix_missing_locations(ast.Module([statement], []))
    try:
        # Annotations stay words: what they name is not here.
        code = compile(module, known["__name__"], "exec", flags=__future__.annotations.compiler_flag)
        exec(code, known)  # noqa: S102 - the installed library's own code
    except Exception:  # noqa: BLE001 - anything may be missing here, and then the statement is left out
        return False
    return True
