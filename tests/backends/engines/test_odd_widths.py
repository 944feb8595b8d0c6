"""4-bit layers of any width answer on a CPU, whatever instructions it has."""

from __future__ import annotations

import pytest
import torch
from bitsandbytes.nn import Linear4bit

from backends.engines.odd_widths import leave_unpacked


@pytest.mark.parametrize(
    ("inputs", "outputs", "left"),
    [(128, 64, 0), (112, 64, 1), (64, 40, 1)],
    ids=["whole", "inputs", "outputs"],
)
def test_layers_that_cannot_be_packed_stay_as_they_are(inputs: int, outputs: int, left: int) -> None:
    torch.manual_seed(0)
    plain = torch.nn.Linear(inputs, outputs)
    layer = Linear4bit(inputs, outputs, quant_type="nf4", compute_dtype=torch.bfloat16)
    layer.load_state_dict(plain.state_dict())
    model = torch.nn.Sequential(layer).to("cpu").eval()
    # As on a processor with the instructions, which the layer asks for when it is made.
    layer.support_avx512bf16_for_cpu = True

    assert leave_unpacked(model) == left

    assert layer.support_avx512bf16_for_cpu == (not left)
    if left:
        given = torch.randn(3, inputs)
        with torch.no_grad():
            found, exact = model(given), plain(given)
        assert torch.nn.functional.cosine_similarity(found.flatten(), exact.flatten(), dim=0) > 0.98
