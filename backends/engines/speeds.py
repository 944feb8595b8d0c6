"""What torch reaches on this machine's processor and GPUs. Runs in a process of its own, by `calibrate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from backends.engines.devices import use_physical_cores
from backends.hardware.timing import shortest

# A prompt's chunk against part of a matrix of a decoder of one to two billion parameters: with the whole of
# it there was time for two or three tries in float32, and the best of so few was 94 to 158 GFLOP/s where that
# of many was 160 to 180.
_ROWS, _INNER, _OUTER, _PART = 256, 2048, 5632, 1408
# Together more than the last cache of most processors holds, so that weights come from memory.
_VECTOR_BYTES = 192 * 1024**2
_GPU_BYTES = 128 * 1024**2
_PINNED_BYTES = 64 * 1024**2
_GPU_SIDE = 4096
# A GPU with less free memory than this is left alone: the context alone may take half of it.
LEAST_FREE_BYTES = 1536 * 1024**2
_BF16_CAPABILITY = 8  # Ampere: the first generation that multiplies bfloat16 natively


def cpu_speeds(seconds: float) -> dict[str, float]:
    """GFLOP/s and GB/s of the CPU, in about `seconds`: the keys are fields of `hardware.types.Cpu`."""
    use_physical_cores()
    found: dict[str, float] = {}
    with torch.inference_mode():
        _product_gflops(torch.float32, seconds / 10)  # whatever comes first warms the processor up
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            found[f"gflops_{name}"] = _product_gflops(dtype, seconds / 4)
            found[f"vector_gbps_{name}"] = _vector_gbps(dtype, seconds / 5)
    return found


def _product_gflops(dtype: torch.dtype, seconds: float) -> float:
    rows = torch.ones(_ROWS, _INNER, dtype=dtype)
    weight = torch.ones(_PART, _INNER, dtype=dtype)
    best = shortest(lambda: torch.nn.functional.linear(rows, weight), seconds)
    return round(2 * _ROWS * _INNER * _PART / best / 1e9, 1)


def _vector_gbps(dtype: torch.dtype, seconds: float) -> float:
    row = torch.ones(1, _INNER, dtype=dtype)
    one = torch.ones(_OUTER, _INNER, dtype=dtype)
    weights = [one, *(one.clone() for _ in range(_VECTOR_BYTES // one.nbytes))]

    def pass_through() -> None:
        for weight in weights:
            torch.nn.functional.linear(row, weight)

    best = shortest(pass_through, seconds)
    return round(sum(weight.nbytes for weight in weights) / best / 1e9, 2)


def gpu_speeds(indices: Sequence[int], seconds: float) -> dict[int, dict[str, float]]:
    """Figures of each GPU that has room, by the driver's index; `indices` are those that torch may see.

    `memory_gbps` counts bytes read and bytes written of a copy within the GPU. A GPU that fails is left out.
    """
    if not indices or not torch.cuda.is_available():
        return {}
    found: dict[int, dict[str, float]] = {}
    for position, index in enumerate(indices[: torch.cuda.device_count()]):
        try:
            if torch.cuda.mem_get_info(position)[0] >= LEAST_FREE_BYTES:
                found[index] = _gpu(torch.device("cuda", position), seconds / len(indices))
        except RuntimeError:  # out of memory is one: the GPU is needed for something else
            continue
    return found


@torch.inference_mode()
def _gpu(device: torch.device, seconds: float) -> dict[str, float]:
    share = seconds / 5
    within = _copy_s(device, torch.ones(_GPU_BYTES, dtype=torch.uint8, device=device), share)
    ordinary = torch.ones(_PINNED_BYTES, dtype=torch.uint8)
    pageable_s = _copy_s(device, ordinary, share)
    pinned_s = _copy_s(device, ordinary.pin_memory(), share)
    half = (
        torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= _BF16_CAPABILITY else torch.float16
    )
    return {
        "memory_gbps": round(2 * _GPU_BYTES / within / 1e9, 1),
        "pcie_gbps": round(_PINNED_BYTES / pinned_s / 1e9, 2),
        "pageable_gbps": round(_PINNED_BYTES / pageable_s / 1e9, 2),
        "tflops_bf16": _gpu_tflops(device, half, share),
        "tflops_fp32": _gpu_tflops(device, torch.float32, share),
    }


def _copy_s(device: torch.device, source: torch.Tensor, seconds: float) -> float:
    """Seconds that a copy of `source` into the GPU's memory takes."""
    target = torch.empty_like(source, device=device)
    return _best_on(device, lambda: target.copy_(source, non_blocking=True), seconds)


def _gpu_tflops(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    square = torch.ones(_GPU_SIDE, _GPU_SIDE, dtype=dtype, device=device)
    best = _best_on(device, lambda: square @ square, seconds)
    return round(2 * _GPU_SIDE**3 / best / 1e12, 2)


def _best_on(device: torch.device, run: Callable[[], object], seconds: float) -> float:
    """The same on a GPU, whose work goes on after the call returns."""

    def whole() -> None:
        run()
        torch.cuda.synchronize(device)

    whole()  # the first call loads the kernel
    return shortest(whole, seconds)
