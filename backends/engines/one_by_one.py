"""Encodes the pictures of a prompt one after the other, where a model would take them all in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from inspect import signature
from typing import Any

import torch

from backends.engines.heap import give_gaps_back
from backends.placement.pictures import encoded_alone

# Families that count pictures along the second dimension of their pixels: [1, pictures, channels, ...].
_SECOND = frozenset({"idefics2", "idefics3", "smolvlm"})
_GRID = "image_grid_thw"
_FEATURES = ("pooler_output", "deepstack_features")


def encode_alone(model: Any) -> None:
    """Let `model` encode one picture (or tile) at a time, where its family gives the same features so.

    Replaces `get_image_features` of the model without its head, which the forward pass calls, on this object.
    """
    inner: Any = getattr(model, "model", None)
    family = model.config.model_type
    if not encoded_alone(family) or not hasattr(inner, "get_image_features"):
        return
    inner.get_image_features = _split(inner.get_image_features, 1 if family in _SECOND else 0)


def _split(encode: Callable[..., Any], axis: int) -> Callable[..., Any]:
    names = tuple(signature(encode).parameters)

    @wraps(encode)
    def one_by_one(*args: Any, **options: Any) -> Any:
        given = dict(zip(names, args, strict=False)) | options
        features = _joined([_slim(encode(**piece)) for piece in _pieces(given, axis)])
        if given["pixel_values"].device.type == "cpu":
            give_gaps_back()
        return features

    return one_by_one


def _pieces(given: dict[str, Any], axis: int) -> Iterator[dict[str, Any]]:
    """The arguments for each picture: its pixels, and its part of what else comes once a picture."""
    pixels, grid = given["pixel_values"], given.get(_GRID)
    if grid is not None:
        # Patches of all pictures lie behind one another; the grid tells how many are whose.
        for index, own in enumerate(pixels.split(grid.prod(-1).tolist())):
            yield given | {"pixel_values": own, _GRID: grid[index : index + 1]}
        return
    count = pixels.shape[axis]
    shared = {name for name, value in given.items() if _comes_with(value, count, axis)}
    for index in range(count):
        yield given | {name: given[name].narrow(axis, index, 1) for name in shared}


def _comes_with(value: object, count: int, axis: int) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim > axis and value.shape[axis] == count


def _slim(output: Any) -> Any:
    """The features only: what the tower kept on its way would be kept for every picture."""
    for name in output.keys() - {*_FEATURES}:
        output[name] = None
    return output


def _joined(outputs: Sequence[Any]) -> Any:
    """One output with all pictures' features."""
    first = outputs[0]
    if len(outputs) == 1:
        return first
    first["pooler_output"] = _behind([output.pooler_output for output in outputs])
    if getattr(first, "deepstack_features", None) is not None:
        levels = zip(*(output.deepstack_features for output in outputs), strict=True)
        first["deepstack_features"] = [_behind(level) for level in levels]
    return first


def _behind(parts: Sequence[Any]) -> Any:
    """Features of pictures behind one another, as the family has them: one tensor, or one a picture."""
    if isinstance(parts[0], torch.Tensor):
        return torch.cat(list(parts))
    return [features for part in parts for features in part]
