"""Machines and GGUF models that plans are made for, and what tests ask of such plans."""

from __future__ import annotations

from typing import Any

from backends.models.types import ModelInfo
from backends.placement.case import Case
from backends.placement.planner import plan, question
from backends.placement.types import DeviceShare, Overrides, Plan, PlanRequest
from backends.presets import Preset
from tests.support import gguf_files
from tests.support.machines import gpu, machine, rtx_2060

LAPTOP = machine(ram=16, available=12)
SIX_GB = machine(rtx_2060(), ram=16, available=12)
TWENTY_FOUR_GB = machine(gpu(0), ram=32)
TWO_8_GB = machine(gpu(0, "A", 8), gpu(1, "B", 8), ram=32)
MACHINES = {"laptop": LAPTOP, "6 GB": SIX_GB, "24 GB": TWENTY_FOUR_GB, "2 x 8 GB": TWO_8_GB}
MAKERS = {
    "llava": gguf_files.llava_15_7b,
    "qwen": gguf_files.qwen25_vl_7b,
    "gemma": gguf_files.gemma3_4b,
    "mixtral": gguf_files.mixtral_8x7b,
}


def made(model: ModelInfo, hardware: Any, preset: str = "auto", **overrides: Any) -> Plan:
    return plan(hardware, model, PlanRequest("m.gguf", Preset(preset), Overrides(**overrides)))


def share(of: Plan, device: str) -> DeviceShare:
    return next(one for one in of.devices if one.device == device)


def case_of(model: ModelInfo, **overrides: Any) -> Case:
    return question(LAPTOP, model, PlanRequest("m", Preset.CPU, Overrides(**overrides)))
