"""Seconds of a GGUF model under llama.cpp: loading, the first token, and tokens per second.

Decoding runs at the memory's speed, or at that of the cores where these are few. Shares of the nominal
figures were measured on two cores, on a machine that others used, too; those of GPUs are estimates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from backends.hardware.types import Gpu
from backends.models.types import Module, ModuleKind
from backends.placement.case import CPU, Case
from backends.placement.gguf_memory import ROWS, Held, cache_bytes, weights_bytes
from backends.placement.speed import QUESTION_TOKENS, half_way
from backends.placement.types import Expected

# Where a snapshot has no figure: modest, as for the other engine.
_RAM_GBPS, _CPU_GFLOPS, _DISK_GBPS = 15.0, 100.0, 0.5
_GPU_GBPS, _GPU_TFLOPS, _PCIE_GBPS = 200.0, 12.0, 10.0
_CPU_READ, _GPU_READ = 0.85, 0.7
# GB of weights that one core takes apart in a second while it writes a token: measured by the time that it
# computed (EPYC, 0.5 B parameters). Few cores need longer for that than the memory does.
_CORE_READ_GBPS = {"f32": 22.0, "bf16": 22.0, "f16": 22.0, "q8_0": 18.0}
_CORE_READ_PACKED_GBPS = 13.0
# A prompt's products beside float32's (OpenBLAS with AVX-512; llama.cpp's build has AVX2), on two cores.
_CPU_MATH = {"f32": 0.9, "bf16": 0.9, "f16": 0.9, "q8_0": 1.2, "q4_0": 1.4}
_CPU_MATH_PACKED, _GPU_MATH = 0.8, 0.4
# Kernels of one layer and of one token.
_LAYER_S, _STEP_S = 0.00005, 0.0005
_START_S, _CUDA_START_S = 0.5, 2.0
# Bytes of a checkpoint that one core converts in a second: 180 MB/s on two cores with AVX2, to Q8_0. One
# thread reads and writes for all of them.
_CONVERT_BPS, _MOST_CONVERTING = 90e6, 8
# A process with torch, transformers and the library one after the other; and pictures through towers.
_COMPARE_START_S, _COMPARED_PICTURES = 8.0, 8
_EYES = (ModuleKind.VISION, ModuleKind.PROJECTOR)
# Picture parts come in 16 bits, almost all of them.
_EYES_TYPE = "f16"


@dataclass(frozen=True, slots=True)
class _Rates:
    """Bytes and FLOPs a second."""

    read: float
    math: float


def expected(case: Case, held: Mapping[str, Held]) -> Expected:
    """What to expect of modules laid out as `held` (device -> modules)."""
    per_token = _STEP_S + sum(_token_seconds(case, device, part) for device, part in held.items())
    disk = (case.hardware.disk.read_gbps or _DISK_GBPS) * 1e9
    load = case.model.weights_bytes / disk + (_CUDA_START_S if _with_gpu(held) else _START_S)
    load += making_seconds(case)
    return Expected.of(load, _first_seconds(case, held), per_token)


def making_seconds(case: Case) -> float:
    """Seconds of what has to be done once before such a load: comparing layouts, converting.

    Comparing sends two pictures through the tower with transformers and with each of three layouts. While a
    checkpoint is converted, it is read.
    """
    if case.conversion is None or case.conversion.ready:
        return 0.0
    comparing, vision = 0.0, case.model.vision
    if case.conversion.compares and vision is not None:
        eyes = sum(module.parameters for module in case.model.modules if module.kind in _EYES)
        flops = 2 * eyes * vision.patches * _COMPARED_PICTURES
        comparing = _COMPARE_START_S + flops / _rates(case, CPU, _EYES_TYPE).math
    cores = min(case.hardware.cpu.cores, _MOST_CONVERTING)
    disk = (case.hardware.disk.read_gbps or _DISK_GBPS) * 1e9
    moved = case.conversion.source_bytes + case.conversion.nbytes
    return comparing + max(case.conversion.source_bytes / (_CONVERT_BPS * cores), moved / disk)


def _token_seconds(case: Case, device: str, held: Held) -> float:
    """One token: the weights that it passes once, and the cache of a conversation half-way."""
    read = sum(_read_bytes(module) for module in held.modules)
    if held.has(ModuleKind.HEAD) and case.model.text.tied_embeddings:
        read += sum(module.nbytes for module in case.model.modules if module.kind is ModuleKind.EMBED)
    whole = cache_bytes(held.layers, case.model.text, case.work)
    cache = whole * half_way(case.work) // case.work.context_tokens
    return (read + cache) / _rates(case, device).read + len(held.layers) * _LAYER_S


def _read_bytes(module: Module) -> int:
    if module.kind not in (ModuleKind.LAYER, ModuleKind.NORM, ModuleKind.HEAD):
        return 0
    return module.nbytes * module.active_parameters // max(1, module.parameters)


def _first_seconds(case: Case, held: Mapping[str, Held]) -> float:
    """A question with its pictures; layers in RAM are brought to the GPU for every pass of many rows."""
    text, work, vision = case.model.text, case.work, case.model.vision
    tokens = min(work.images * work.image_tokens + QUESTION_TOKENS, work.context_tokens)
    passes = math.ceil(tokens / ROWS)
    gpu = next((device for device in held if device.startswith("cuda:")), None)
    total = _STEP_S
    for device, part in held.items():
        layers = part.layers
        rates = _rates(case, device)
        flops = 2 * sum(layer.active_parameters for layer in layers) * tokens
        flops += 4 * len(layers) * tokens**2 * text.heads * text.head_dim
        reading = passes * weights_bytes(part, case, on_gpu=False) / rates.read if layers else 0.0
        here = max(flops / rates.math, reading)
        if layers and gpu is not None and not device.startswith("cuda:"):
            moved = passes * sum(layer.nbytes for layer in layers) / _link(case, gpu)
            here = min(here, moved + flops / _rates(case, gpu).math)
        total += here
        if part.has(ModuleKind.VISION) and vision is not None and work.images:
            patches = vision.patches
            if vision.dynamic:
                patches = min(patches, work.image_tokens * vision.merge**2)
            rows = work.images * vision.max_tiles * patches
            seen = sum(module.parameters for module in part.modules if module.kind in _EYES)
            flops = 2 * seen * rows + 4 * vision.layers * rows * patches * vision.hidden
            total += flops / _rates(case, device, _EYES_TYPE).math
    return total


def _rates(case: Case, device: str, kind: str = "") -> _Rates:
    """What `device` reaches with weights of a GGUF type (by default, what most of the model is in)."""
    gpu = case.gpu(device)
    if gpu is not None:
        math_rate = (gpu.tflops_bf16 or _GPU_TFLOPS) * 1e12 * _GPU_MATH
        return _Rates((gpu.memory_gbps or _GPU_GBPS) * 1e9 * _GPU_READ, math_rate)
    cpu, kind = case.hardware.cpu, kind or case.model.dtype
    flops = (cpu.gflops_fp32 or _CPU_GFLOPS) * 1e9
    memory = (case.hardware.ram.memory_gbps or _RAM_GBPS) * _CPU_READ
    read = min(memory, cpu.cores * _CORE_READ_GBPS.get(kind, _CORE_READ_PACKED_GBPS)) * 1e9
    return _Rates(read, flops * _CPU_MATH.get(kind, _CPU_MATH_PACKED))


def _link(case: Case, device: str) -> float:
    gpu: Gpu | None = case.gpu(device)
    pcie = (gpu.pcie_gbps if gpu is not None else None) or _PCIE_GBPS
    return min(pcie, case.hardware.ram.memory_gbps or _RAM_GBPS) * 1e9


def _with_gpu(held: Mapping[str, Held]) -> bool:
    return any(device.startswith("cuda:") for device in held)
