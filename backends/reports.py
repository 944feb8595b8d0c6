"""What really happened, as values: loads and unloads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoadReport:
    """A finished load, read off the loaded model and not off the request.

    `device_map` is (module, device) of the real modules; `peaks` is (device, peak bytes during load);
    `quantized` counts the Linear modules that really are quantized.
    """

    engine: str
    precision: str
    device_map: tuple[tuple[str, str], ...]
    dtype: str
    quantized: int
    offload_dir: str | None
    seconds: float
    peaks: tuple[tuple[str, int], ...]
    supports_images: bool
    context_tokens: int


@dataclass(frozen=True, slots=True)
class UnloadReport:
    """A finished unload: what came back, and how long it took until the system saw it."""

    freed_ram_bytes: int
    freed_gpu_bytes: int
    seconds: float
