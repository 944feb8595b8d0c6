"""A vision part that rests elsewhere than it runs comes whole for every pass that encodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backends.models.types import ModelInfo, ModuleKind
from backends.placement import speed
from backends.placement.planner import plan
from backends.placement.precision import Precision
from backends.placement.types import Expected, Overrides, PlanRequest
from backends.presets import Preset
from tests.support.machines import gpu, machine

FP16 = Precision("fp16", "float16")
ON_CPU, ON_GPU = machine(ram=128), machine(gpu(0, pcie_gbps=24.0), ram=128)
EYES = (ModuleKind.VISION, ModuleKind.PROJECTOR)


def expected(
    model: ModelInfo, hardware: Any, rest: str, eyes: str, *, off: str = "", **more: Any
) -> Expected:
    """Of `model` whose modules rest in `rest`, those that see in `eyes`, and the module `off` in RAM."""
    places = [(module.name, eyes if module.kind in EYES else rest) for module in model.modules]
    places = [(name, "cpu" if name == off else place) for name, place in places]
    overrides = Overrides(device_map=tuple(places), **more)
    return plan(hardware, model, PlanRequest("m", Preset.CUSTOM, overrides)).expected


def eyes_bytes(model: ModelInfo) -> int:
    return sum(module.nbytes for module in model.modules if module.kind in EYES)


@pytest.mark.parametrize(
    ("family", "tiles", "images", "passes"),
    [
        pytest.param("llava", 1, 1, 1, id="a picture"),
        pytest.param("llava", 1, 3, 3, id="three, one after the other"),
        pytest.param("llava_next", 5, 2, 2, id="a picture's tiles go together"),
        pytest.param("internvl", 5, 2, 10, id="one tile after the other"),
        pytest.param("mllama", 4, 3, 1, id="all pictures at once"),
        pytest.param("llava", 1, 0, 0, id="words only: it stays where it is"),
    ],
)
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_from_the_disk(
    llava: ModelInfo, family: str, tiles: int, images: int, passes: int, *, precision: str
) -> None:
    assert llava.vision is not None
    model = replace(llava, family=family, vision=replace(llava.vision, max_tiles=tiles))
    near, far = (
        expected(model, ON_CPU, "cpu", eyes, images=images, precision=precision) for eyes in ("cpu", "disk")
    )
    rates = speed.cpu_rates(ON_CPU, FP16, quantized=False, converts=precision == "fp32")
    seconds = passes * eyes_bytes(model) / rates.disk
    assert far.first_token_s - near.first_token_s == pytest.approx(seconds, abs=0.002)
    assert far.tokens_per_s == near.tokens_per_s, "words never meet it"


@pytest.mark.parametrize("images", [1, 2])
def test_from_ram_to_a_gpu_that_streams(llava: ModelInfo, images: int) -> None:
    last = [module.name for module in llava.modules if module.kind is ModuleKind.LAYER][-1]
    there, far = (
        expected(llava, ON_GPU, "cuda:0", eyes, off=last, images=images, cpu_layers_mode="stream")
        for eyes in ("cuda:0", "cpu")
    )
    link = speed.gpu_rates(ON_GPU.gpus[0], ON_GPU, FP16).link
    seconds = images * eyes_bytes(llava) / link
    assert far.first_token_s - there.first_token_s == pytest.approx(seconds, abs=0.002)
    assert far.tokens_per_s == there.tokens_per_s


def test_from_the_disk_to_a_gpu(llava: ModelInfo) -> None:
    there, far = (expected(llava, ON_GPU, "cuda:0", eyes) for eyes in ("cuda:0", "disk"))
    rates = speed.gpu_rates(ON_GPU.gpus[0], ON_GPU, FP16)
    seconds = eyes_bytes(llava) / rates.disk
    assert far.first_token_s - there.first_token_s == pytest.approx(seconds, abs=0.002)
