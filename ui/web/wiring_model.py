"""Events of the side bar: presets, models, loading, and the tick that keeps the page true."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from backends.errors import Action, GpuUnsupported, SnugError
from backends.placement.types import Plan, PlanRequest
from backends.presets import Preset
from backends.service import ModelState
from ui.i18n import Translator
from ui.web import climbing, notices
from ui.web.by_hand import for_engine
from ui.web.context import Context, say_for
from ui.web.format import hardware_card, unloaded_text
from ui.web.html import esc
from ui.web.load_line import load_line
from ui.web.panels import header as header_panel
from ui.web.panels import placement
from ui.web.panels import setup as setup_panel
from ui.web.panels.chat import Chat
from ui.web.panels.converted import Converted
from ui.web.panels.custom import Custom
from ui.web.panels.header import Header
from ui.web.panels.setup import Setup
from ui.web.panels.whatif import WhatIf
from ui.web.planning import change, hardware_of, leave, make_plan, settle
from ui.web.redrawing import above_plan, converted_updates, custom_updates, whatif_updates
from ui.web.route import route
from ui.web.seeing import remark, sees
from ui.web.sessions import Session
from ui.web.way_out import WayOut, after_crash, way_out

TICK_S = 2.0
_LOADING_TICK_S = 0.4
_TICKS_TO_REPEAT = 10
# What is loaded is loaded here.
_OF_THIS_MACHINE = (
    Action.RESTART, Action.WITHOUT_GPU, Action.SIXTEEN_BITS, Action.USE_TRANSFORMERS, Action.CLEAR_CONVERTED
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Page:
    """Every component that the tick keeps true."""

    header: Header
    setup: Setup
    chat: Chat
    hardware: gr.HTML
    plan: gr.HTML
    details: gr.HTML
    custom: Custom
    whatif: WhatIf
    converted: Converted
    timer: gr.Timer

    @property
    def live(self) -> list[Any]:
        """Outputs of `refresh`, in its order."""
        return [
            self.hardware, self.plan, self.details, self.header.status,
            self.setup.load, self.setup.unload, self.setup.note,
            self.chat.notice_box, self.chat.notice, self.chat.act, self.timer, self.chat.reading,
            *self.custom.outputs, *self.whatif.outputs, *self.converted.outputs,
        ]  # fmt: skip


def refresh(context: Context, session: Session, touched: Collection[str] = ()) -> list[Any]:
    """Values of `Page.live`; what has not changed is skipped, so that nothing flickers.

    `touched` names the controls that the person is using: what stands in them is newer than what we know.
    """
    with session.deciding:
        return _refresh(context, session, touched)


def _refresh(context: Context, session: Session, touched: Collection[str]) -> list[Any]:
    say, service = say_for(session), context.service
    state = service.state()
    request = session.request or context.start
    plan = make_plan(context, request, hardware_of(session))
    real = placement.measured(plan, state, session.turns)
    possible = isinstance(plan, Plan) and plan.verdict != "no" and session.elsewhere is None
    card = current_notice(context, session, answering=session.answering)
    here = plan if isinstance(plan, Plan) and session.elsewhere is None else None
    way = route(state, request, here, service.why_reload, differently=service.loads_differently)
    note = unloaded_text(context.loader.unloaded, say) if context.loader.unloaded else way.note(say)
    note = say("whatif.no_load") if session.elsewhere else note
    below = load_line(state, say) or (f'<p class="sn-note" role="status">{esc(note)}</p>' if note else "")
    banner = above_plan(session)
    loading = state.status == "loading" or context.loader.busy
    reading = remark(session, say, seeing=sees(context, session))

    def update(panel: str, key: object, make: Callable[[], Any]) -> Any:  # noqa: ANN401 - any component's update
        return make() if session.changed(panel, (say.language, key)) else gr.skip()

    hardware = hardware_card(service.snapshot(), say)
    status = header_panel.status_html(state, say)
    pressed = (state.status, setup_panel.loading_word(state), way.kind, possible)
    load, unload = setup_panel.buttons(state, way, say, possible=possible)
    return [
        update("hardware", hardware, lambda: hardware),
        update(
            "plan", (placement.gist(plan), real, banner), lambda: banner + placement.card(plan, say, real)
        ),
        update("details", placement.gist(plan), lambda: placement.details(plan, say)),
        update("status", status, lambda: status),
        update("load", pressed, lambda: load),
        update("unload", pressed, lambda: unload),
        update("note", below, lambda: below),
        update("notice_box", card is not None, lambda: gr.Column(visible=card is not None)),
        update("notice", card, lambda: card.html(say) if card else ""),
        update("act", card and card.button(say), lambda: _action_button(card, say)),
        update("timer", loading, lambda: gr.Timer(_LOADING_TICK_S if loading else TICK_S)),
        update("reading", reading, lambda: reading),
        *custom_updates(context, session, plan, touched),
        *whatif_updates(context, session, touched),
        *converted_updates(context, session),
    ]  # fmt: skip


def _model_error(context: Context, session: Session) -> SnugError | None:
    error = context.service.state().error or context.loader.error
    return None if error is session.dismissed else error


def _action_button(card: notices.Notice | None, say: Translator) -> Any:  # noqa: ANN401 - a component's update
    words = card.button(say) if card is not None else ""
    return gr.Button(words, visible=True) if words else gr.Button(visible=False)


def current_notice(context: Context, session: Session, *, answering: bool = False) -> notices.Notice | None:
    """The card that the tab shows now; while it is `answering`, no question counts as unanswered."""
    state, asked = context.service.state(), session.request or context.start
    return notices.choose(
        () if answering else session.turns,
        state.status,
        session.error,
        _model_error(context, session),
        offer_for=lambda error: climbing.offer_for(context, session, error),
        taken=climbing.latest(session, state),
        way_out_of=lambda error: _way_out(context, state, error),
        converted_again=_crashing(state, asked) == asked and asked in session.climb.converted_again,
    )


def _crashing(state: ModelState, asked: PlanRequest) -> PlanRequest:
    """The request that is loaded when the model is started again."""
    return state.plan.request if state.plan is not None else asked


def _way_out(context: Context, state: ModelState, error: SnugError) -> WayOut | None:
    """Of the load that failed last, and of no other trouble."""
    if state.failed is None or error not in (state.error, context.loader.error):
        return None
    return way_out(error, state.failed, context.service.converted())


def wire(page: Page, context: Context) -> None:
    """Attach the handlers."""
    setup = page.setup

    def tick(request: gr.Request) -> list[Any]:
        session = context.session(request)
        session.ticks += 1
        if session.ticks % _TICKS_TO_REPEAT == 0:
            with session.deciding:
                session.forget_shown()
        return refresh(context, session)

    def choose(model: str, preset: str, request: gr.Request) -> list[Any]:
        session = context.session(request)
        with session.deciding:
            settle(context, session, setup_panel.model_named(model), Preset(preset))
            session.error = None
        return [gr.Dropdown(info=say_for(session)(f"preset.{preset}.info")), *refresh(context, session)]

    def load(request: gr.Request) -> list[Any]:
        session = context.session(request)
        begin_load(context, session)
        return refresh(context, session)

    def unload(request: gr.Request) -> list[Any]:
        session = context.session(request)
        if context.service.state().status == "loading":
            context.loader.cancel()
        else:
            context.loader.unload()
        return refresh(context, session)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
    page.timer.tick(tick, None, page.live, **quiet)
    gr.on(
        [component.change for component in setup.inputs],
        choose,
        setup.inputs,
        [setup.preset, *page.live],
        trigger_mode="always_last",
        **quiet,
    )
    setup.load.click(load, None, page.live, **quiet)
    setup.unload.click(unload, None, page.live, **quiet)


def begin_load(context: Context, session: Session) -> None:
    """Begin to load what the tab asks for, unless that is what comes into memory already."""
    with session.deciding:
        request, state = session.request or context.start, context.service.state()
        same = state.plan is not None and state.plan.request == request
        if session.elsewhere is not None or (same and state.status == "loading"):
            return  # pressed twice: a load that gave way to itself would begin anew
        session.error = None
        if same:
            _note_again(session, state.error, request)
        plan = make_plan(context, request)
        if isinstance(plan, Plan):
            context.loader.load(plan)
        else:
            session.error = plan


def _note_again(session: Session, error: SnugError | None, request: PlanRequest) -> None:
    """Note what is loaded again after a crash while it converted: that is not offered a second time."""
    if error is not None and after_crash(error) is not None:
        session.climb.converted_again.add(request)


def act_on_model(
    context: Context, session: Session, action: Action, error: SnugError | None
) -> PlanRequest | None:
    """Run a card's button where it concerns the model; returns the request when it changed."""
    if action in _OF_THIS_MACHINE:
        leave(context, session)
    request = session.request or context.start
    match action:
        case Action.RESTART:
            _note_again(session, error, _crashing(context.service.state(), request))
            _restart(context, request)
        case Action.STEP_DOWN:
            return climbing.take(context, session)
        case Action.UNDO_STEP:
            return climbing.undo(context, session)
        case Action.USE_TRANSFORMERS:
            return _use_transformers(context, session, request)
        case Action.CLEAR_CONVERTED:
            context.service.clear_converted()
            _restart(context, request)
        case Action.SIXTEEN_BITS:
            change(context, session, notices.in_sixteen_bits(request.overrides))
            return session.request
        case _:
            return _other_request(context, action, error, request)
    return None


def _other_request(
    context: Context, action: Action, error: SnugError | None, request: PlanRequest
) -> PlanRequest | None:
    """What a button asks for instead; it is planned, and the person loads it."""
    match action:
        case Action.USE_LOWER_PRESET:
            return PlanRequest(request.model, notices.lower_preset(request.preset))
        case Action.WITHOUT_GPU if isinstance(error, GpuUnsupported):
            return notices.without_gpus(request, error, context.service.usable().gpus)
        case Action.PICK_MODEL:
            return PlanRequest("starter", request.preset)
        case _:
            return None


def _use_transformers(context: Context, session: Session, request: PlanRequest) -> PlanRequest:
    """Load the same with the other engine, at once."""
    session.climb.unfit.add(request.model)
    kept = for_engine(request.overrides, "transformers")
    changed = replace(request, overrides=kept.overrides)
    session.notes = kept.dropped
    plan = make_plan(context, changed)
    if isinstance(plan, Plan):
        context.loader.load(plan)
    else:
        session.error = plan
    return changed


def _restart(context: Context, request: PlanRequest) -> None:
    status = context.service.state().status
    plan = make_plan(context, request) if status == "empty" else None
    if status == "crashed":
        context.loader.restart()
    elif isinstance(plan, Plan):
        context.loader.load(plan)
