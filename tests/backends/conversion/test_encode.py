"""Numbers in blocks: the same bytes as the library's own, and nothing that is no number."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from backends.conversion.encode import NotFiniteError, encoded, floats, interleaved
from backends.conversion.types import WeightType

RANDOM = np.random.default_rng(1)
# Longer than one step of the encoder, and no multiple of it.
NUMBERS = (RANDOM.standard_normal(5 * (1 << 16) + 32 * 7) * 0.03).astype(np.float32)


@pytest.mark.parametrize("kind", [WeightType.Q8_0, WeightType.Q4_0])
def test_blocks_are_those_of_the_library(kind: WeightType) -> None:
    theirs = quants.quantize(NUMBERS, GGMLQuantizationType[kind.name])
    assert np.array_equal(encoded(NUMBERS, "float32", kind), theirs)


@pytest.mark.parametrize("kind", [WeightType.Q8_0, WeightType.Q4_0])
def test_blocks_of_zeros_stay_zeros(kind: WeightType) -> None:
    made = encoded(np.zeros(64, np.float32), "float32", kind)
    assert not quants.dequantize(made, GGMLQuantizationType[kind.name]).any()


def test_floats_keep_their_bits() -> None:
    assert np.array_equal(encoded(NUMBERS, "float32", WeightType.F32).view(np.float32), NUMBERS)
    half = NUMBERS.astype(np.float16)
    assert np.array_equal(encoded(half, "float16", WeightType.F16).view(np.float16), half)
    assert np.array_equal(encoded(NUMBERS, "float32", WeightType.F16).view(np.float16), half)


def test_bfloat16_is_the_upper_half_of_a_float() -> None:
    stored = (NUMBERS.view(np.uint32) >> 16).astype(np.uint16)
    assert np.allclose(floats(stored, "bfloat16"), NUMBERS, rtol=2**-7)
    assert np.array_equal(floats(np.array([0x3F80, 0xC000], np.uint16), "bfloat16"), [1.0, -2.0])


@pytest.mark.parametrize("kind", list(WeightType))
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf], ids=str)
def test_what_is_no_number_is_refused(kind: WeightType, wrong: float) -> None:
    numbers = NUMBERS.copy()
    numbers[-5] = wrong
    with pytest.raises(NotFiniteError):
        encoded(numbers, "float32", kind)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_what_16_bits_do_not_hold_is_refused(dtype: str) -> None:
    numbers = np.full(32, 1e6, np.float32)
    stored = (numbers.view(np.uint32) >> 16).astype(np.uint16) if dtype == "bfloat16" else numbers
    with pytest.raises(NotFiniteError):
        encoded(stored, dtype, WeightType.F16)


def test_halves_of_each_head_take_turns() -> None:
    rows = np.arange(8)[:, None]
    assert interleaved(rows, 4).ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert interleaved(rows, 8).ravel().tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
