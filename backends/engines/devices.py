"""Turn a plan's devices, precision and threads into what torch and transformers take."""

from __future__ import annotations

import os

import psutil
import torch

from backends.engines.placing import CPU, Unit, units
from backends.errors import DeviceMapInvalid
from backends.hardware.cpu import usable_cores
from backends.placement.types import Plan
from backends.text import Text

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_BF16_CAPABILITY = 8  # Ampere: the first generation that multiplies bfloat16 natively


def runtime_device(device: str, visible_gpus: tuple[int, ...]) -> str:
    """Renumber `cuda:N` of the driver to the position among the visible GPUs; others stay as they are."""
    if not device.startswith("cuda:"):
        return device
    index = int(device.removeprefix("cuda:"))
    if not visible_gpus:
        return device
    if index not in visible_gpus:
        raise DeviceMapInvalid(
            detail=Text.of(
                "engine.hidden_gpu", "It names {device}, which this process may not see.", device=device
            ),
            suggestion=Text("engine.hidden_gpu_remedy", "Choose the GPUs to use again."),
        )
    return f"cuda:{visible_gpus.index(index)}"


def driver_device(device: str, visible_gpus: tuple[int, ...]) -> str:
    """The inverse of `runtime_device`: what torch calls `cuda:0` by the driver's index."""
    if not device.startswith("cuda") or not visible_gpus:
        return device
    position = int(device.partition(":")[2] or 0)
    return f"cuda:{visible_gpus[position]}"


def runtime_map(plan: Plan) -> dict[str, str]:
    """The plan's device map as transformers takes it; one entry when everything shares one device."""
    renumbered = {name: runtime_device(device, plan.visible_gpus) for name, device in plan.device_map}
    devices = set(renumbered.values()) or {"cpu"}
    only = next(iter(devices))
    if len(devices) == 1 and only != "disk":
        return {"": only}
    return renumbered


def runtime_units(plan: Plan) -> tuple[Unit, ...]:
    """What rests and runs where, with GPUs as torch numbers them."""
    renumbered = [(name, runtime_device(device, plan.visible_gpus)) for name, device in plan.device_map]
    return units(renumbered or [("", CPU)], plan.cpu_layers_mode)


def is_streamed(plan: Plan) -> bool:
    """Whether weights travel to the executing device in every forward pass."""
    return any(unit.visits for unit in units(plan.device_map, plan.cpu_layers_mode))


def compute_dtype(plan: Plan) -> torch.dtype:
    """The dtype of everything that is not quantized.

    LLM.int8 multiplies in fp16; NF4 in bf16 where every GPU has it, else in fp16. Quantized plans without
    a GPU compute in bf16 where the CPU has instructions for it, else in fp32.
    """
    if plan.precision in _DTYPES:
        return _DTYPES[plan.precision]
    indices = sorted({int(d[5:]) for _, d in plan.device_map if d.startswith("cuda:")})
    if not indices:
        features = torch.cpu.get_capabilities()
        return torch.bfloat16 if features.get("avx512_bf16") or features.get("amx_bf16") else torch.float32
    if plan.precision == "int8":
        return torch.float16
    capabilities = [
        torch.cuda.get_device_capability(runtime_device(f"cuda:{index}", plan.visible_gpus))[0]
        for index in indices
    ]
    return torch.bfloat16 if min(capabilities) >= _BF16_CAPABILITY else torch.float16


def use_physical_cores() -> int:
    """Let torch use one thread for each physical core that affinity and a quota leave; returns the number.

    A choice made through `OMP_NUM_THREADS`, which in a child process is a setting of ours, is left alone.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(usable_cores(psutil.cpu_count(logical=False) or psutil.cpu_count() or 1))
    return torch.get_num_threads()
