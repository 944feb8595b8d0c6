"""What really happened, as values: loads, memory at its peak, unloads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backends.text import Text


@dataclass(frozen=True, slots=True)
class LoadReport:
    """A finished load or move, read off the loaded model and not off the request.

    `moved` says that the model was in memory already and took other places; `seconds` is then what that took.
    `device_map` is (module, device) of the real modules; `peaks` is (device, peak bytes during load);
    `quantized` counts the Linear modules that really are quantized. `notes` are sentences about what the
    engine did to the model's files.
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
    moved: bool = False
    notes: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class UnloadReport:
    """A finished unload: what came back, and how long it took until the system saw it."""

    freed_ram_bytes: int
    freed_gpu_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class DevicePeak:
    """What one device held at most since the model was ready, as the worker's process sees it.

    `weights_bytes` are the model's tensors at rest here.

    On the CPU, `peak_bytes` is the peak of resident memory (anonymous pages, the libraries' code and pages of
    mapped files); `mapped_bytes` are the resident pages of mapped weight files at the end, and
    `mapped_weights_bytes` the tensors that live in such files, whether resident or not.

    On a GPU, `peak_bytes` and `allocated_bytes` are the peaks of what torch reserved from the driver and of
    what tensors took of it; `now_bytes` is what is reserved at the end.
    """

    device: str
    weights_bytes: int
    peak_bytes: int = 0
    allocated_bytes: int = 0
    now_bytes: int = 0
    mapped_bytes: int = 0
    mapped_weights_bytes: int = 0


Source = Literal["process", "driver", "allocator"]


@dataclass(frozen=True, slots=True)
class DeviceMeasured:
    """What one device really held, beside the formula for the same tokens and pictures.

    `held_bytes` compares with a plan's total for the device. By `source`:
    - `process` (RAM): peak resident memory, in which mapped weights count in full, as the plan counts them;
    - `driver`: the driver's figure for the process, raised to torch's peak;
    - `allocator`: torch's peak alone, where the driver does not tell (Windows): without the CUDA context.
    `expected_bytes` is the formula's figure for what `held_bytes` holds, before any correction.
    """

    device: str
    held_bytes: int
    weights_bytes: int
    expected_bytes: int
    source: Source
    allocated_bytes: int = 0
    reserved_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Measurement:
    """A loaded model's peaks so far. `context_tokens` were in its caches, in messages of up to `images`.

    `load_peak_ram_bytes` is the peak of resident memory while loading, mapped pages included; it and `load_s`
    are None for a model that was moved to where it is.
    """

    context_tokens: int
    images: int
    load_s: float | None
    load_peak_ram_bytes: int | None
    first_token_s: float
    tokens_per_s: float
    devices: tuple[DeviceMeasured, ...]
