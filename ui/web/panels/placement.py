"""The plan: what will run where, how fast, and why."""

from __future__ import annotations

import gradio as gr

from backends.errors import SnugError
from backends.placement.types import Plan
from ui.i18n import Translator
from ui.web.format import error_card, plan_card, plan_details
from ui.web.html import section


def build() -> gr.HTML:
    """Lay the panel out; the first tick fills it."""
    return gr.HTML("", apply_default_css=False, elem_id="plan")


def card(plan: Plan | SnugError, say: Translator) -> str:
    """The plan, or why there is none."""
    if isinstance(plan, SnugError):
        return section(say("ui.plan"), error_card(plan, say))
    return plan_card(plan, say)


def details(plan: Plan | SnugError, say: Translator) -> str:
    """The plan's reasons and alternatives."""
    return "" if isinstance(plan, SnugError) else plan_details(plan, say)


def gist(plan: Plan | SnugError) -> object:
    """What makes a plan worth drawing again: free memory that wavers by some megabytes does not."""
    if isinstance(plan, SnugError):
        return str(plan)
    budgets = tuple(
        (share.device, share.total_bytes >> 20, share.budget_bytes >> 28) for share in plan.devices
    )
    return (
        plan.request, plan.verdict, plan.engine, plan.precision, plan.device_map, budgets,
        f"{plan.expected.tokens_per_s:.1g}", tuple(str(reason.code) for reason in plan.reasons),
    )  # fmt: skip
