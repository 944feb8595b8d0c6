"""A second device where there is none: tensors that say they are elsewhere, and refuse to meet others.

Inside `second_device()` the device `FAR` holds values in RAM but behaves as a GPU does: an operation whose
tensors are on different devices raises RuntimeError, only numbers (tensors without dimensions) may come from
the CPU, what is made with `device=FAR` or copied `.to(FAR)` is there, and results stay where they came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeAlias

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

FAR = "cuda:0"
_DEVICE = torch.device(FAR)
_COPIES = ("_to_copy", "copy_", "to")
_ASKS_FIRST = (
    *(torch.Tensor.nonzero, torch.Tensor.__invert__, torch.Tensor.bitwise_not, torch.Tensor.contiguous),
)
# What torch hands to its hooks.
_Arguments: TypeAlias = Sequence[Any]
_Named: TypeAlias = Mapping[str, Any] | None


def _dispatch(
    _owner: Any, func: Any, types: Sequence[type], args: _Arguments = (), kwargs: _Named = None
) -> Any:
    return _run(func, args, kwargs or {})


class FarTensor(torch.Tensor):
    """A tensor on `FAR`; `inner` has its values."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls: type[Self], inner: torch.Tensor) -> Self:
        # A view of an ordinary tensor gets that one's version counter, which inference tensors can't have.
        with torch.inference_mode(mode=False):
            made = torch.Tensor._make_wrapper_subclass(
                cls,
                inner.shape,
                strides=inner.stride(),
                dtype=inner.dtype,
                device=_DEVICE,
                requires_grad=False,
            )
        made.inner = inner
        return made

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: _Arguments = (), kwargs: _Named = None
    ) -> Any:
        if func is torch.Tensor.tolist:
            return args[0].inner.tolist()  # numbers may be read back from any device
        # These ask torch for the device's driver before they reach `__torch_dispatch__`.
        if func in _ASKS_FIRST and isinstance(args[0], FarTensor):
            return FarTensor(func(args[0].inner))
        if func is torch.Tensor.__getitem__ and isinstance(args[0], FarTensor):
            return FarTensor(args[0].inner[_checked(args[1])])
        if func is torch.Tensor.__setitem__ and isinstance(args[0], FarTensor):
            args[0].inner[_checked(args[1])] = _checked(args[2])
            return None
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    __torch_dispatch__ = classmethod(_dispatch)


class _Makes(TorchDispatchMode):
    __torch_dispatch__ = _dispatch


class _MakesFromNumbers(TorchFunctionMode):
    """`torch.tensor` copies to its device by itself, past every dispatcher."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: _Arguments = (), kwargs: _Named = None
    ) -> Any:
        given = dict(kwargs or {})
        device = given.get("device")
        if func is torch.tensor and device is not None and torch.device(device) == _DEVICE:
            return FarTensor(torch.tensor(*args, **given | {"device": "cpu"}))
        return func(*args, **given)


@contextmanager
def second_device() -> Iterator[None]:
    """Let `FAR` be a device. Only where torch knows no real one by that name."""
    if torch.cuda.is_available():
        raise RuntimeError("there is a real one; use it")
    start, torch.cuda._lazy_init = torch.cuda._lazy_init, lambda: None
    try:
        with _Makes(), _MakesFromNumbers():
            yield
    finally:
        torch.cuda._lazy_init = start


def _run(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    name = func.__name__.split(".")[0]
    tensors = [item for item in tree_iter((args, kwargs)) if isinstance(item, torch.Tensor)]
    far = [tensor for tensor in tensors if isinstance(tensor, FarTensor)]
    near = [tensor for tensor in tensors if not isinstance(tensor, FarTensor) and tensor.ndim]
    if far and near and name not in _COPIES:
        raise RuntimeError(f"{func}: expected all tensors on one device, found {FAR} and cpu")
    asked = [item for item in tree_iter((args, kwargs)) if isinstance(item, torch.device)]
    there = bool(far)
    if asked:
        there = asked[0] == _DEVICE
    elif name == "copy_":
        there = isinstance(args[0], FarTensor)
    result = func(*tree_map(_inner, tuple(args)), **tree_map(_inner, dict(kwargs)))
    if name == "to" and result is _inner(args[0]) and there != bool(far):
        result = result.clone()  # what is on another device is another tensor
    if name == "to" and result is _inner(args[0]) and there != bool(far):
        result = result.clone()  # what is on another device is another tensor
    if name.endswith("_") and not name.startswith("_"):
        return args[0]  # in place
    return tree_map(lambda item: _outer(item, there), result)


def _checked(value: Any) -> Any:
    """An index or value as the inner tensor takes it; numbers may come from anywhere."""
    for item in tree_iter(value):
        if isinstance(item, torch.Tensor) and not isinstance(item, FarTensor) and item.ndim:
            raise RuntimeError(f"indexing: expected all tensors on {FAR}, found cpu")
    return tree_map(_inner, value)


def _inner(item: Any) -> Any:
    if isinstance(item, torch.device):
        return torch.device("cpu") if item == _DEVICE else item
    return item.inner if isinstance(item, FarTensor) else item


def _outer(item: Any, there: bool) -> Any:
    return FarTensor(item) if there and isinstance(item, torch.Tensor) else item
