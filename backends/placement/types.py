"""What is asked of the planner and what it decides, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from backends.conversion.types import Conversion
from backends.models.types import Companions
from backends.presets import Preset
from backends.text import Text

# Tokens of a typical answer: a short paragraph.
ANSWER_TOKENS = 128
Verdict = Literal["fits", "slow", "no"]
EngineName = Literal["transformers", "llamacpp", "remote"]
CpuLayersMode = Literal["compute", "stream"]


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a person set by hand; None (or empty) leaves it to the planner.

    `max_memory` is (device id, bytes) pairs; `device_map` (module, device) pairs. `image_tokens` is what one
    picture may take at most: its detail, for families that can scale pictures (others refuse it).
    `base` is the model that a LoRA or a bare projector belongs to, `vision_tower` and `tokenizer` are what a
    checkpoint leaves to others, named like any model; `template` is the name of the conversation's format.
    """

    gpus: tuple[int, ...] | None = None
    gpu_layers: int | None = None
    precision: str | None = None
    context_tokens: int | None = None
    images: int | None = None
    engine: EngineName | None = None
    cpu_layers_mode: CpuLayersMode | None = None
    offload_dir: str | None = None
    max_memory: tuple[tuple[str, int], ...] = ()
    device_map: tuple[tuple[str, str], ...] | None = None
    image_tokens: int | None = None
    base: str | None = None
    vision_tower: str | None = None
    tokenizer: str | None = None
    template: str | None = None


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """`model` is what the person named: `starter`, a folder, a file or a Hub id."""

    model: str
    preset: Preset = Preset.AUTO
    overrides: Overrides = Overrides()


@dataclass(frozen=True, slots=True)
class DeviceShare:
    """What one device holds and may hold. `device` is `cuda:0`, `cpu` or `disk`."""

    device: str
    name: str
    budget_bytes: int
    weights_bytes: int
    kv_cache_bytes: int
    activation_bytes: int
    staging_bytes: int
    overhead_bytes: int

    @property
    def total_bytes(self) -> int:
        """Everything that this device will hold at its peak."""
        return (
            self.weights_bytes
            + self.kv_cache_bytes
            + self.activation_bytes
            + self.staging_bytes
            + self.overhead_bytes
        )


@dataclass(frozen=True, slots=True)
class Expected:
    """Expected seconds to load, to the first token (of a prompt with its pictures), and decode speed."""

    load_s: float
    first_token_s: float
    tokens_per_s: float

    @classmethod
    def of(cls, load_s: float, first_token_s: float, token_s: float) -> Expected:
        """Round to what a person can use; of less than a token a second, three digits remain."""
        rate = 1 / token_s
        return cls(round(load_s, 2), round(first_token_s, 3), round(rate, 2) if rate >= 1 else _digits(rate))

    @property
    def answer_s(self) -> float:
        """Seconds of a typical answer, from the question with its pictures to the last word."""
        return self.first_token_s + ANSWER_TOKENS / self.tokens_per_s


def _digits(rate: float) -> float:
    return float(f"{rate:.3g}")


@dataclass(frozen=True, slots=True)
class Alternative:
    """A candidate that was considered and not chosen; `why_not` says why in one sentence."""

    engine: EngineName
    precision: str
    verdict: Verdict
    tokens_per_s: float
    why_not: Text


@dataclass(frozen=True, slots=True)
class Plan:
    """A decision that an engine can carry out as it stands.

    `device_map` covers every module of the model, in execution order. `int8_fp32_cpu_offload` is set
    exactly when int8 modules are mixed with modules on the CPU or disk. `visible_gpus` are the driver's
    indices that the child process may see (`CUDA_VISIBLE_DEVICES`, PCI order), none for the CPU preset.
    `cuda:N` in `device_map` and `devices` is the driver's index; the engine renumbers it by the position
    in `visible_gpus`. `compute_dtype` is torch's name of the dtype of everything that is not quantized.
    `disk_needed_bytes` is what loading writes to `offload_dir`; other weights on the disk are read from the
    model's own files, and a disk's share has them among its weights and in its budget.
    `image_tokens` is what one picture may take at most (dynamic families are limited to it).
    `quantized` are the modules whose matrices are quantized where `precision` is int8 or nf4. `conversion` is
    what llama.cpp needs made of a checkpoint first (None: the model's own files are loaded).
    """

    request: PlanRequest
    model_path: str
    family: str
    parameters: int
    layers: int
    format: str
    engine: EngineName
    precision: str
    verdict: Verdict
    device_map: tuple[tuple[str, str], ...]
    gpu_layers: int
    cpu_layers_mode: CpuLayersMode | None
    context_tokens: int
    images: int
    image_tokens: int
    offload_dir: str | None
    int8_fp32_cpu_offload: bool
    visible_gpus: tuple[int, ...]
    devices: tuple[DeviceShare, ...]
    load_peak_ram_bytes: int
    disk_needed_bytes: int
    expected: Expected
    reasons: tuple[Text, ...]
    alternatives: tuple[Alternative, ...]
    compute_dtype: str = "float32"
    quantized: tuple[str, ...] = ()
    conversion: Conversion | None = None
    companions: Companions = field(default_factory=Companions)


@dataclass(frozen=True, slots=True)
class Credit:
    """Memory that our loaded model will give back before the next one is loaded, as (GPU index, bytes)."""

    ram_bytes: int = 0
    gpu_bytes: tuple[tuple[int, int], ...] = ()
