"""Presets are policies: what a plan may use and what it aims for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

# Reading speed of an adult, in tokens: below this an answer is slower than its reader (DESIGN section 3).
READING_TOKENS_PER_S = 5.0
# Longer than this before the first word, and an answer counts as slow, however fast it runs then.
LONGEST_WAIT_S = 30.0


class Preset(StrEnum):
    """The choices of the preset dropdown, in its order."""

    AUTO = "auto"
    HIGH = "high"
    MID = "mid"
    LOW = "low"
    CPU = "cpu"
    CUSTOM = "custom"


FULL_PRECISIONS = ("bf16", "fp16", "fp32")
# All that a checkpoint of safetensors can be loaded in.
PRECISIONS = (*FULL_PRECISIONS, "int8", "nf4")
# What llama.cpp can be given instead, after a conversion.
CONVERTED_PRECISIONS = ("q8_0", "q4_0", "f16")
# Room for the words of one question and of the chat template around it.
QUESTION_TOKENS = 192
# The precisions that a preset's name stands for; the others stand for none.
MEANT: Mapping[Preset, tuple[str, ...]] = MappingProxyType(
    {Preset.HIGH: FULL_PRECISIONS, Preset.MID: ("int8",), Preset.LOW: ("nf4",)}
)

PlacementKind = Literal["gpu", "gpus", "hybrid", "disk", "cpu"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What a preset may use.

    `precisions` are tried in order of preference; "checkpoint" stands for the dtype that the files hold.
    `placements` likewise. `reading_speed` prefers the first candidate at reading speed over a slower one
    of higher quality.
    """

    precisions: tuple[str, ...]
    placements: tuple[PlacementKind, ...]
    reading_speed: bool = False


_EVERYTHING = Policy(
    ("checkpoint", "int8", "nf4"), ("gpu", "gpus", "hybrid", "cpu", "disk"), reading_speed=True
)

_POLICIES: dict[Preset, Policy] = {
    Preset.AUTO: _EVERYTHING,
    Preset.HIGH: Policy(("checkpoint",), ("gpu", "gpus")),
    Preset.MID: Policy(("int8",), ("gpu", "gpus", "hybrid")),
    Preset.LOW: Policy(("nf4",), ("gpu", "hybrid", "disk")),
    Preset.CPU: Policy(("checkpoint",), ("cpu", "disk")),
    Preset.CUSTOM: _EVERYTHING,
}


def policy(preset: Preset) -> Policy:
    """Return what `preset` may use and in which order."""
    return _POLICIES[preset]
