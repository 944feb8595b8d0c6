"""Turns stored numbers into bytes of a GGUF type: 16-bit, or blocks of 32 that share a scale."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backends.conversion.types import WeightType

Floats: TypeAlias = NDArray[np.float32]
Bytes: TypeAlias = NDArray[np.uint8]

# Numbers that are converted at a time, so that what is between fits into a core's cache.
_STEP = 1 << 16


class NotFiniteError(ValueError):
    """A number is infinite or none, or too large for the type."""


def floats(stored: NDArray[Any], dtype: str) -> Floats:
    """Stored numbers of torch's `dtype` in 32 bits."""
    if dtype == "bfloat16":
        wide: Floats = np.left_shift(stored, 16, dtype=np.uint32).view(np.float32)
        return wide
    same: Floats = stored.astype(np.float32, copy=False)
    return same


def interleaved(rows: NDArray[Any], head_dim: int) -> NDArray[Any]:
    """Rows of whole heads with the halves of each head taken in turns: 0, d/2, 1, d/2 + 1, ...

    transformers rotates number i with i + d/2; llama.cpp's Llama rotates neighbours.
    """
    width = rows.shape[-1]
    return np.ascontiguousarray(rows.reshape(-1, 2, head_dim // 2, width).swapaxes(1, 2)).reshape(-1, width)


def encoded(stored: NDArray[Any], dtype: str, kind: WeightType) -> Bytes:
    """The bytes of a line of numbers, a whole number of blocks. Raises NotFiniteError."""
    if kind is WeightType.F16 and dtype == "float16":
        _check_finite(stored)
        return stored.view(np.uint8)
    out = np.empty((stored.size // kind.block, kind.block_bytes), np.uint8)
    with np.errstate(all="ignore"):
        for begin in range(0, stored.size, _STEP):
            part = floats(stored[begin : begin + _STEP], dtype)
            first = begin // kind.block
            _ENCODERS[kind](part, out[first : first + part.size // kind.block])
    return out.reshape(-1)


def _f32(numbers: Floats, out: Bytes) -> None:
    _check_finite(numbers)
    out.reshape(-1).view(np.float32)[:] = numbers


def _f16(numbers: Floats, out: Bytes) -> None:
    half = out.reshape(-1).view(np.float16)
    half[:] = numbers
    _check_finite(half)


def _q8_0(numbers: Floats, out: Bytes) -> None:
    """Scale = largest magnitude / 127, then the nearest whole numbers (ggml's quantize_row_q8_0)."""
    blocks = numbers.reshape(-1, 32)
    scale = np.maximum(blocks.max(axis=1), -blocks.min(axis=1)) / np.float32(127)
    _put_scale(scale, out)
    scaled = blocks * _inverse(scale)
    np.rint(scaled, out=scaled)
    out[:, 2:] = scaled.astype(np.int8).view(np.uint8)


def _q4_0(numbers: Floats, out: Bytes) -> None:
    """Scale = the number of the largest magnitude / -8, then 0..15 around 8 (ggml's quantize_row_q4_0)."""
    blocks = numbers.reshape(-1, 32)
    high, low = blocks.max(axis=1), blocks.min(axis=1)
    scale = np.where(high > -low, high, low) / np.float32(-8)
    _put_scale(scale, out)
    scaled = blocks * _inverse(scale)
    scaled += np.float32(8.5)
    whole = np.minimum(scaled, 15).astype(np.uint8)
    np.bitwise_or(whole[:, :16], whole[:, 16:] << 4, out=out[:, 2:])


def _put_scale(scale: Floats, out: Bytes) -> None:
    half = scale.astype(np.float16)
    _check_finite(half)
    out[:, :2] = half.view(np.uint8).reshape(-1, 2)


def _inverse(scale: Floats) -> Floats:
    found: Floats = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    return found[:, None]


def _check_finite(numbers: NDArray[Any]) -> None:
    if not np.isfinite(numbers).all():
        raise NotFiniteError


_ENCODERS = {WeightType.F32: _f32, WeightType.F16: _f16, WeightType.Q8_0: _q8_0, WeightType.Q4_0: _q4_0}
