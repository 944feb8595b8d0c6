"""The plan: what will run where, how fast, and why."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr

from backends.errors import SnugError
from backends.placement.types import Plan
from backends.service import ModelState
from ui.i18n import Translator
from ui.web.chat_flow import Conversation
from ui.web.format import Measured, error_card, plan_card, plan_details
from ui.web.html import section


def build() -> gr.HTML:
    """Lay the panel out; the first tick fills it."""
    return gr.HTML("", apply_default_css=False, elem_id="plan")


def card(plan: Plan | SnugError, say: Translator, measured: Measured) -> str:
    """The plan, or why there is none."""
    if isinstance(plan, SnugError):
        return section(say("ui.plan"), error_card(plan, say))
    return plan_card(plan, say, measured)


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
        plan.conversion and (plan.conversion.ready, plan.conversion.layout), plan.companions,
    )  # fmt: skip


def measured(plan: Plan | SnugError, state: ModelState, turns: Conversation) -> Measured:
    """What the loaded model did, when `plan` is what is loaded: its load, its memory, the newest answer."""
    if isinstance(plan, SnugError) or state.plan is None or state.report is None:
        return Measured()
    if state.plan.request != plan.request or state.plan.device_map != plan.device_map:
        return Measured()
    report = state.report
    # A load that converted first tells nothing of the ones to come.
    seconds = None if _is_converted(plan) and not _is_converted(state.plan) else report.seconds
    load = Measured(seconds, memory=state.measured, moved=report.moved, notes=report.notes)
    # An answer from before the model was loaded like this tells nothing of it.
    own = (turn.done for turn in reversed(turns) if turn.by == state.report)
    done = next((one for one in own if one is not None and one.token_ids), None)
    if done is None:
        return load
    rate = done.timings.tokens_per_s if len(done.token_ids) > 1 else None
    return replace(load, first_token_s=done.timings.first_token_s, tokens_per_s=rate)


def _is_converted(plan: Plan) -> bool:
    return plan.conversion is None or plan.conversion.ready
