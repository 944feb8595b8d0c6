"""Works out which tensors a pickle lists, step by step over its opcodes, without running any.

Of Python's pickle only what torch.save writes for tensors is known: containers, texts, numbers, the
functions that put a tensor together, and persistent ids that name its storage. Everything else is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.models import pickled_refusal as wrong
from backends.text import Text

# A tensor takes about 40 steps.
_MOST_STEPS = 2_000_000
_MOST_DIMENSIONS = 16
_MAX_EXTENT = 1 << 50
_MAX_NUMBER = 1 << 63

# torch's name -> bytes per element.
WIDTHS: Mapping[str, int] = {
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"), 1),
    **dict.fromkeys(("int8", "uint8", "bool"), 1),
    **dict.fromkeys(("bfloat16", "float16", "int16", "uint16"), 2),
    **dict.fromkeys(("float32", "int32", "uint32"), 4),
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8),
    "complex128": 16,
}
_STORAGES: Mapping[str, str] = {
    "torch.BFloat16Storage": "bfloat16",
    "torch.HalfStorage": "float16",
    "torch.FloatStorage": "float32",
    "torch.DoubleStorage": "float64",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.ShortStorage": "int16",
    "torch.IntStorage": "int32",
    "torch.LongStorage": "int64",
    "torch.BoolStorage": "bool",
    "torch.ComplexFloatStorage": "complex64",
    "torch.ComplexDoubleStorage": "complex128",
    "torch.storage.UntypedStorage": "uint8",
}
_DTYPES: Mapping[str, str] = {f"torch.{name}": name for name in WIDTHS}


@dataclass(frozen=True, slots=True)
class Storage:
    """A record of the file, as numbers of one type."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True, slots=True)
class View:
    """A tensor: a window into a storage. `offset`, `shape` and `strides` count its own numbers."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """A function or class by its name; never the thing itself."""

    name: str


class _Ordered(dict[Any, Any]):
    """A collections.OrderedDict, the only thing whose attributes may be set (and are not needed)."""


class _Misuse(Exception):
    """A known function, applied to something else than it is for."""


def listed(path: Path, program: bytes) -> object:
    """What the pickle of `path` would build: dicts, lists, tuples, texts, numbers and Views.

    Raises ModelUnsupported, naming what was asked for, for anything that is not part of a list of tensors,
    and ModelDamaged for a pickle that breaks its own rules.
    """
    machine = _Machine(path)
    position = 0
    try:
        for steps, (operation, argument, at) in enumerate(pickletools.genops(program)):
            position = at or 0
            if steps >= _MOST_STEPS:
                raise wrong.too_much(path, _MOST_STEPS, Text("pickled.steps", "steps in its list of tensors"))
            if operation.name == "STOP":
                return machine.pop()
            machine.step(operation.name, argument)
    except _Misuse as error:
        raise wrong.misused(path, str(error), position) from error
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise wrong.garbled(path, position) from error
    raise wrong.garbled(path, len(program))


class _Machine:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._steps: dict[str, Callable[[Any], None]] = {
            **dict.fromkeys(("PROTO", "FRAME"), _pass),
            **dict.fromkeys(("BINPUT", "LONG_BINPUT", "PUT"), self._keep),
            **dict.fromkeys(("BINGET", "LONG_BINGET", "GET"), self._recall),
            **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "LONG4"), self._number),
            **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINFLOAT"), self._push),
            "MEMOIZE": lambda _: self._keep(len(self._memo)),
            "NONE": lambda _: self._push(None),
            "NEWTRUE": lambda _: self._stack.append(True),
            "NEWFALSE": lambda _: self._stack.append(False),
            "EMPTY_DICT": lambda _: self._push({}),
            "EMPTY_LIST": lambda _: self._push([]),
            "EMPTY_TUPLE": lambda _: self._push(()),
            "MARK": lambda _: self._mark(),
            "TUPLE": lambda _: self._push_marked(),
            "TUPLE1": lambda _: self._tuple(1),
            "TUPLE2": lambda _: self._tuple(2),
            "TUPLE3": lambda _: self._tuple(3),
            "APPEND": lambda _: self._extend([self.pop()]),
            "APPENDS": lambda _: self._extend(self._marked()),
            "SETITEM": lambda _: self._set([self.pop(), self.pop()][::-1]),
            "SETITEMS": lambda _: self._set(self._marked()),
            "GLOBAL": lambda name: self._find(*name.split(" ", 1)),
            "STACK_GLOBAL": lambda _: self._find(*[self.pop(), self.pop()][::-1]),
            "BINPERSID": lambda _: self._push(_storage(self.pop())),
            "REDUCE": lambda _: self._reduce(),
            "BUILD": lambda _: self._build(),
        }

    def step(self, name: str, argument: object) -> None:
        """Take one step of the pickle. Raises _Misuse where it is none that lists of tensors need."""
        if name not in self._steps:
            raise _Misuse(name)
        self._steps[name](argument)

    def pop(self) -> Any:  # noqa: ANN401 - whatever the pickle put there
        """Take what is on top of the stack; IndexError where there is nothing."""
        return self._stack.pop()

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _number(self, value: int) -> None:
        if abs(value) > _MAX_NUMBER:
            raise ValueError
        self._push(value)

    def _keep(self, key: int) -> None:
        self._memo[key] = self._stack[-1]

    def _recall(self, key: int) -> None:
        self._push(self._memo[key])

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _marked(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _push_marked(self) -> None:
        items = self._marked()
        self._push(tuple(items))

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise IndexError
        items = tuple(self._stack[-count:])
        del self._stack[-count:]
        self._push(items)

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise _Misuse("APPENDS")
        target.extend(items)

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise _Misuse("SETITEMS")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Nothing else is a tensor's name; what is nested without end can't even be compared.
            if type(key) not in (str, int):
                raise _Misuse("SETITEMS")
            target[key] = value

    def _find(self, module: str, name: str) -> None:
        full = f"{module}.{name}" if type(module) is str and type(name) is str else "STACK_GLOBAL"
        if full not in _STORAGES and full not in _DTYPES and full not in _FUNCTIONS:
            raise wrong.wants_code(self._path, full)
        self._push(_Known(full))

    def _reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if (
            not isinstance(function, _Known)
            or function.name not in _FUNCTIONS
            or type(arguments) is not tuple
        ):
            raise _Misuse("REDUCE")
        made = _FUNCTIONS[function.name](arguments)
        if made is None:
            raise _Misuse(function.name)
        self._push(made)

    def _build(self) -> None:
        state = self.pop()
        # A state dict remembers the versions of its modules as an attribute.
        if not isinstance(self._stack[-1], _Ordered) or not isinstance(state, dict):
            raise _Misuse("BUILD")


def _pass(_: object) -> None:
    """A step that only tells the version or a length."""


def _storage(name: object) -> Storage:
    """The storage that a persistent id names: ("storage", class, key, device, numbers)."""
    if type(name) is tuple and len(name) == 5 and name[0] == "storage":
        _, kind, key, _, count = name
        known = isinstance(kind, _Known) and kind.name in _STORAGES
        if known and type(key) is str and type(count) is int and 0 <= count <= _MAX_EXTENT:
            return Storage(_STORAGES[kind.name], key, count)
    raise _Misuse("BINPERSID")


def _ordered(arguments: tuple[Any, ...]) -> _Ordered | None:
    return None if arguments else _Ordered()


def _size(arguments: tuple[Any, ...]) -> tuple[int, ...] | None:
    return arguments[0] if len(arguments) == 1 and _sizes(arguments[0]) else None


def _tensor(arguments: tuple[Any, ...]) -> View | None:
    """_rebuild_tensor(storage, offset, shape, strides) and version 2, whose 7th argument must be empty."""
    if len(arguments) not in (4, 6, 7) or (len(arguments) == 7 and arguments[6]):
        return None
    storage = arguments[0]
    return _view(arguments, storage.dtype) if isinstance(storage, Storage) else None


def _typed_tensor(arguments: tuple[Any, ...]) -> View | None:
    """_rebuild_tensor_v3: the storage is bytes, and the 7th argument says of which type the tensor is."""
    if len(arguments) not in (7, 8) or (len(arguments) == 8 and arguments[7]):
        return None
    dtype = arguments[6]
    if not isinstance(dtype, _Known) or dtype.name not in _DTYPES or not isinstance(arguments[0], Storage):
        return None
    return _view(arguments, _DTYPES[dtype.name])


def _view(arguments: tuple[Any, ...], dtype: str) -> View | None:
    storage, offset, shape, strides = arguments[:4]
    good = type(offset) is int and 0 <= offset <= _MAX_EXTENT and _sizes(shape) and _sizes(strides)
    return View(storage, dtype, offset, shape, strides) if good and len(shape) == len(strides) else None


def _parameter(arguments: tuple[Any, ...]) -> View | None:
    """_rebuild_parameter(tensor, requires_grad, hooks)."""
    return arguments[0] if len(arguments) == 3 and isinstance(arguments[0], View) else None


def _sizes(value: object) -> bool:
    return (
        type(value) is tuple
        and len(value) <= _MOST_DIMENSIONS
        and all(type(item) is int and 0 <= item <= _MAX_EXTENT for item in value)
    )


_FUNCTIONS: Mapping[str, Callable[[tuple[Any, ...]], Any]] = {
    "collections.OrderedDict": _ordered,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
}
