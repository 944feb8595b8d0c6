"""What LLM.int8 and NF4 really leave on the CPU: which layers, in which dtype, as many bytes as planned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from transformers.quantizers.auto import AutoHfQuantizer

from backends.engines.options import load_options
from backends.models.identify import identify
from backends.placement.case import placed_bytes
from backends.placement.precision import Precision
from tests.support.plans import make_plan

LAYERS = "model.language_model.layers"
ON_GPU = ("model.vision_tower", "model.multi_modal_projector", "model.language_model.embed_tokens")


@pytest.mark.parametrize(
    ("precision", "kind"), [("int8", "Linear8bitLt"), ("nf4", "Linear4bit")], ids=["int8", "nf4"]
)
def test_layers_off_the_gpu_keep_the_width_that_is_counted(
    precision: str, kind: str, models: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 6))
    folder = models("llava")
    modules = identify(folder).modules
    places = {
        module.name: "cuda:0" if module.name in (*ON_GPU, f"{LAYERS}.0") else "cpu" for module in modules
    }
    plan = make_plan(
        folder, device_map=places, precision=precision, visible_gpus=(0,), int8_fp32_cpu_offload=True
    )
    options = load_options(plan)
    config = transformers.AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = transformers.AutoModelForImageTextToText.from_config(config, dtype=options["dtype"])
    quantizer = AutoHfQuantizer.from_config(options["quantization_config"])
    quantizer._process_model_before_weight_loading(model, device_map=options["device_map"])

    quantized = {name for name, module in model.named_modules() if type(module).__name__ == kind}
    assert len(quantized) == 7
    assert all(name.startswith(f"{LAYERS}.0.") for name in quantized)
    compute = {"int8": "float16", "nf4": "bfloat16"}[precision]
    assert str(options["dtype"]) == f"torch.{compute}"
    for module in modules:
        if places[module.name] == "cpu" and module.parameters:
            kept = list(model.get_submodule(module.name).parameters())
            assert {parameter.dtype for parameter in kept} == {options["dtype"]}
            planned = placed_bytes(module, "cpu", Precision(precision, compute), has_gpu=True)
            assert sum(parameter.nbytes for parameter in kept) == planned
