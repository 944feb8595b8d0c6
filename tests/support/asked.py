"""A model that can be converted, asked for plans; machines that tell kinds of plans apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from backends.conversion.types import Layout, Offers
from backends.hardware.types import HardwareSnapshot
from backends.models.types import ModelInfo
from backends.placement.planner import plan
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from tests.support.machines import gpu, machine, rtx_2060

NO_GPU = machine(ram=64)
LAPTOP = machine(ram=16, available=12)
SMALL = machine(ram=8, available=7.5)
TINY = machine(ram=8, available=5)
FULL_DISK = machine(ram=64, disk=4)
OLD_CPU = machine(ram=64, features=("avx",))
CARD = machine(gpu(0), ram=64)
SIX_GB = machine(rtx_2060(), ram=16, available=12)
BF16 = ("avx2", "avx512f", "avx512_bf16")


class Asked:
    """A model with its offers, and plans for it."""

    def __init__(self, model: ModelInfo, offered: Offers) -> None:
        self.model, self.offers = model, offered

    def plan(
        self, hardware: HardwareSnapshot, preset: str = "cpu", *, on_gpus: bool = False, **set_: Any
    ) -> Plan:
        request = PlanRequest("m", Preset(preset), Overrides(**set_))
        return plan(hardware, self.model, request, offers=self.offers, llama_on_gpus=on_gpus)

    def judge(self, request: PlanRequest) -> Plan:
        return plan(LAPTOP, self.model, request, offers=self.offers)


def said(of: Plan) -> str:
    """All its reasons in a line."""
    return " | ".join(map(str, of.reasons))


def chosen(of: Plan) -> tuple[str, str, str]:
    """Engine, precision and verdict."""
    return of.engine, of.precision, of.verdict


def converted(asked: Asked, *, ready: bool = True, layout: Layout | None = Layout.ROTATED) -> Asked:
    variants = tuple(
        replace(
            one, conversion=replace(one.conversion, ready=ready, layout=layout, compared=layout and "model")
        )
        for one in asked.offers.variants
    )
    return Asked(asked.model, Offers(variants))
