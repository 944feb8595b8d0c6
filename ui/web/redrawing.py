"""Updates of the panels that follow a person's hand: sent when something was done, not with every tick."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import gradio as gr

from backends.errors import SnugError
from backends.models.types import ModelInfo
from backends.placement.types import Plan, PlanRequest
from backends.presets import Preset
from ui.web.context import Context, say_for
from ui.web.drawing import updates
from ui.web.panels import converted as converted_panel
from ui.web.panels import custom as custom_panel
from ui.web.panels import whatif as whatif_panel
from ui.web.panels.custom import PictureCost
from ui.web.planning import hardware_of, make_plan
from ui.web.sessions import Session


def above_plan(session: Session) -> str:
    """What a person must see before the plan: whose it is, what became of settings, what is wrong."""
    say = say_for(session)
    remarks = custom_panel.remarks(say, session.notes, session.problem)
    return whatif_panel.banner(say, session.elsewhere) + remarks


def custom_updates(
    context: Context, session: Session, plan: Plan | SnugError, touched: Collection[str]
) -> list[Any]:
    """Updates of the settings by hand. Their figures follow what a person does, not the tick."""
    say, request = say_for(session), session.request or context.start
    model = _model(context, request)
    hardware = hardware_of(session) or context.service.usable()
    about = custom_panel.About(
        request,
        plan,
        model,
        hardware,
        session.elsewhere is not None,
        session.drafts.get(request.model),
        session.draft_plan,
        limited=session.limited,
        leave_room=context.service.leave_room,
        leans_on=context.service.leans_on(request.model),
    )
    parts = tuple((gpu.index, gpu.name, gpu.total_bytes) for gpu in hardware.gpus)
    key = (
        say.language, request, plan_key(plan), model and model.path, parts, session.elsewhere,
        about.draft, session.draft_plan, session.limited, about.leave_room, about.leans_on,
    )  # fmt: skip
    if not session.changed("custom.", key):
        return [gr.skip()] * len(custom_panel.NAMES)
    about = replace(about, cost=_picture_cost(context, session, plan, model))
    return updates("custom", custom_panel.NAMES, custom_panel.view(say, about), session, touched)


def plan_key(plan: Plan | SnugError) -> object:
    """What of a plan the settings by hand show: free memory that wavers is not among it."""
    if isinstance(plan, SnugError):
        return str(plan)
    return plan.request, plan.engine, plan.precision, plan.device_map, plan.context_tokens, plan.image_tokens


def _model(context: Context, request: PlanRequest) -> ModelInfo | None:
    try:
        return context.service.inspect(request.model, request.overrides)
    except SnugError:
        return None


def _picture_cost(
    context: Context, session: Session, plan: Plan | SnugError, model: ModelInfo | None
) -> PictureCost | None:
    """What one picture takes: the plan with one, beside the same placement without any."""
    if model is None or model.vision is None or not model.vision.dynamic or isinstance(plan, SnugError):
        return None
    # llama.cpp is told a number of layers, not where each module lies.
    by_number = plan.engine == "llamacpp"
    overrides = replace(
        plan.request.overrides,
        device_map=None if by_number else plan.device_map,
        gpu_layers=plan.gpu_layers if by_number else None,
        engine="llamacpp" if by_number else plan.request.overrides.engine,
        precision=plan.precision,
        context_tokens=plan.context_tokens,
        image_tokens=plan.image_tokens or None,
    )
    asked = PlanRequest(plan.request.model, Preset.CUSTOM, overrides)
    one, none = (
        make_plan(context, replace(asked, overrides=replace(overrides, images=images)), hardware_of(session))
        for images in (1, 0)
    )
    if isinstance(one, SnugError) or isinstance(none, SnugError) or not one.image_tokens:
        return None
    active = [sum(share.activation_bytes for share in made.devices) for made in (one, none)]
    cache = sum(share.kv_cache_bytes for share in one.devices) * one.image_tokens // one.context_tokens
    seconds = one.expected.first_token_s - none.expected.first_token_s
    return PictureCost(one.image_tokens, cache + max(0, active[0] - active[1]), max(0.0, seconds))


def whatif_updates(context: Context, session: Session, touched: Collection[str]) -> list[Any]:
    """Updates of the what-if panel; an answer about another request is none any more."""
    say, request = say_for(session), session.request or context.start
    answer = session.needs[1] if session.needs and session.needs[0] == request else None
    about = whatif_panel.About(session.elsewhere, session.description, answer)
    if not session.changed("custom.whatif", (say.language, about)):
        return [gr.skip()] * len(whatif_panel.NAMES)
    return updates("custom.whatif", whatif_panel.NAMES, whatif_panel.view(say, about), session, touched)


def converted_updates(context: Context, session: Session) -> list[Any]:
    """Updates of the section on converted files."""
    say = say_for(session)
    about = converted_panel.About(context.service.converted(), session.asking_to_clear, session.came_free)
    if not session.changed("custom.converted", (say.language, about)):
        return [gr.skip()] * len(converted_panel.NAMES)
    return updates("custom.converted", converted_panel.NAMES, converted_panel.view(say, about), session)
