"""The sentences with which detection says what is absent, hidden or assumed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from backends.text import Text, Value

NOTES: Mapping[str, str] = MappingProxyType(
    {
        "hardware.no_nvidia": "No NVIDIA driver was found, so Snug uses the CPU.",
        "hardware.no_pynvml": (
            "The package nvidia-ml-py is missing, so NVIDIA GPUs can't be seen. Run launch.py again."
        ),
        "hardware.no_device": "The NVIDIA driver is installed, but it reports no GPU. Snug uses the CPU.",
        "hardware.driver_not_loaded": (
            "The NVIDIA driver is installed but not running. Restart the machine, or install it again."
        ),
        "hardware.driver_mismatch": (
            "The NVIDIA driver and its library have different versions, as happens after an update. "
            "Restart the machine."
        ),
        "hardware.no_permission": (
            "This account may not ask the NVIDIA driver. On Linux, check the rights of /dev/nvidiactl and "
            "/dev/nvidia0."
        ),
        "hardware.driver_error": "The NVIDIA driver answered with an error ({detail}), so Snug uses the CPU.",
        "hardware.gpu_lost": (
            "The driver lost contact with GPU {index} ({name}): {detail}. Restarting the machine usually "
            "brings it back."
        ),
        "hardware.gpu_no_memory_figure": (
            "The driver does not tell how much memory GPU {index} ({name}) has, so Snug can't plan for it."
        ),
        "hardware.gpu_mig": (
            "GPU {index} ({name}) is split into MIG instances, which Snug can't use yet, so it is left out."
        ),
        "hardware.hidden": "CUDA_VISIBLE_DEVICES is set to {value!r}, which hides {count} of {total} GPUs.",
        "hardware.apple": (
            "Apple silicon: processor and graphics share {total:bytes} of memory. Snug computes on the CPU "
            "cores; their graphics part is not used yet."
        ),
        "hardware.amd": "{name} is there, but Snug does not use AMD GPUs yet.",
        "hardware.intel": "{name} is there, but Snug does not use Intel GPUs yet.",
        "hardware.ram_limited": (
            "This process may use {limit:bytes} of the machine's {total:bytes} of memory (a container limit)."
        ),
        "hardware.cpu_limited": "This process may use {cores} of the machine's {total} CPU cores.",
        "hardware.failed": "{part} could not be asked: {detail}.",
        "hardware.torch_cpu": (
            "The installed PyTorch ({version}) has no GPU support, so plans use the CPU. "
            "Run: python launch.py --repair"
        ),
        "hardware.torch_newer": (
            "The NVIDIA driver ({driver}) supports CUDA up to {has}, the installed PyTorch needs {needs}, so "
            "plans use the CPU. Update the driver, or run: python launch.py --repair"
        ),
        "hardware.llama_cpu": ("The installed llama.cpp computes on the processor only, so it uses no GPU."),
        "hardware.idle_maker": (
            "GPU {index} ({name}) is not used: Snug uses NVIDIA's GPUs, and this is another maker's."
        ),
        "hardware.idle_macos": "GPU {index} ({name}) is not used: there is no CUDA for macOS.",
        "hardware.idle_old": (
            "GPU {index} ({name}) is not used: its compute capability is {capability}, and PyTorch for CUDA "
            "{cuda} works from {least} on."
        ),
        "hardware.idle_new": (
            "GPU {index} ({name}) is not used: its compute capability is {capability}, and PyTorch for CUDA "
            "{cuda} works below {beyond}. Run: python launch.py --repair"
        ),
        "hardware.part.cpu": "The processor",
        "hardware.part.disk": "The disk",
        "hardware.part.ram": "The memory",
    }
)


def note(code: str, **values: Value) -> Text:
    """Build the sentence `code` of `NOTES` with its figures."""
    return Text.of(code, NOTES[code], **values)
