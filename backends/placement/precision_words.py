"""The sentences that say in how many bits the weights are kept, and why."""

from __future__ import annotations

from backends.hardware.types import Gpu
from backends.placement.labels import precision_label
from backends.placement.precision import LEAST_CAPABILITY
from backends.text import Text, reads_alike


def checkpoint_precision(precision: str) -> Text:
    """Full quality: half precision."""
    return Text.of(
        "reason.checkpoint",
        "The weights are in half precision ({precision}), not quantized.",
        precision=precision,
    )


def quantized(precision: str, saved: int) -> Text:
    """Weights are quantized."""
    return Text.of(
        "reason.quantized",
        "Decoder layers on the GPU are stored in {precision}, which saves {saved:bytes}; the vision part, "
        "embeddings and head keep half precision.",
        precision=precision,
        saved=saved,
    )


def cpu_full_width(precision: str) -> Text:
    """Quantization does not reach the CPU."""
    return Text.of(
        "reason.cpu_full_width",
        "Layers in RAM or on the disk are not quantized; they stay in {precision}.",
        precision=precision,
    )


def cpu_fp32(cpu: str) -> Text:
    """fp32 because the CPU has no bf16 instructions."""
    return Text.of(
        "reason.cpu_fp32",
        "{cpu} has no bf16 instructions, so fp32 is several times faster on it, at twice the memory.",
        cpu=cpu,
    )


def cpu_fp32_small() -> Text:
    """fp32 because the model is so small that conversion costs more than it saves."""
    return Text.of(
        "reason.cpu_fp32_small",
        "The model is so small that fp32 costs little memory, and half precision is hardly faster here.",
    )


def cpu_bf16(cpu: str) -> Text:
    """bf16 because the CPU multiplies it itself."""
    return Text.of(
        "reason.cpu_bf16",
        "{cpu} has bf16 instructions, and bf16 halves the memory to read for every token.",
        cpu=cpu,
    )


def cpu_bf16_no_room(needed: int, budget: int) -> Text:
    """bf16 although slow, because fp32 does not fit."""
    if reads_alike(needed, budget, "bytes"):
        return Text.of(
            "reason.cpu_bf16_barely",
            "fp32 would be faster on this CPU, but it needs {missing:bytes} more than the {budget:bytes} "
            "that can be used; bf16 is slower here.",
            missing=needed - budget,
            budget=budget,
        )
    return Text.of(
        "reason.cpu_bf16_no_room",
        "fp32 would be faster on this CPU, but it needs {needed:bytes} and {budget:bytes} can be used; bf16 "
        "is slower here.",
        needed=needed,
        budget=budget,
    )


def cpu_quantized(precision: str) -> Text:
    """Bitsandbytes on a CPU."""
    return Text.of(
        "reason.cpu_quantized",
        "{precision} saves memory but is slow on a CPU: less than one token a second for a model of a "
        "billion parameters.",
        precision=precision,
    )


def gpu_too_old(choice: str, gpu: Gpu) -> Text:
    """Bitsandbytes has no kernels for this GPU."""
    return Text.of(
        "reason.gpu_too_old",
        "{precision} needs compute capability {least}, and {gpu} has {have}, so it is not used with it.",
        precision=precision_label(choice),
        least="{}.{}".format(*LEAST_CAPABILITY[choice]),
        gpu=gpu.name,
        have="{}.{}".format(*(gpu.compute_capability or (0, 0))),
    )


def fp16_for_bf16(gpu: Gpu) -> Text:
    """fp16 because a GPU has no bf16 units."""
    return Text.of(
        "reason.fp16_for_bf16",
        "{gpu} (compute capability {have}) can't compute in bf16, so fp16 takes its place.",
        gpu=gpu.name,
        have="{}.{}".format(*(gpu.compute_capability or (0, 0))),
    )
