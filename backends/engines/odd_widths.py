"""Keeps bitsandbytes from packing 4-bit layers for the CPU that its packing can't hold.

On processors with bfloat16 instructions it packs a layer's weights anew when they are first used there, in
whole blocks only; a layer of another width then fails in the middle of an answer. Unpacked it works as on
other processors.
"""

from __future__ import annotations

from typing import Any

# What one block of the packed form takes of outputs, and what one scale covers of inputs.
_OUTPUTS = 32


def leave_unpacked(model: Any) -> int:
    """Have layers of `model` that can't be packed stay as they are; returns how many. Call it once loaded."""
    found = 0
    for module in model.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is None or not getattr(module, "support_avx512bf16_for_cpu", False):
            continue
        outputs, inputs = state.shape
        if outputs % _OUTPUTS or inputs % state.blocksize:
            module.support_avx512bf16_for_cpu = False
            found += 1
    return found
