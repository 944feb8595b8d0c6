"""Events of the settings by hand: each control changes one of them, and the plan follows at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import gradio as gr

from backends.errors import SettingInvalid, SnugError
from backends.placement.types import EngineName, Overrides
from backends.text import Text
from ui.web import by_hand, theme
from ui.web.context import Context
from ui.web.panels import companions
from ui.web.panels.custom import GIB, Custom, limited_gpu
from ui.web.planning import change, forget_draft, hardware_of, map_written, undo, use_draft
from ui.web.sessions import Session
from ui.web.wiring_model import Page, refresh

_ENGINES: Mapping[str, EngineName] = MappingProxyType({name: name for name in by_hand.ENGINES})
_NUMBERS = ("gpu_layers", "context_tokens", "images", "image_tokens")
_MOST_GIB = 1 << 20


def _gpus(context: Context, session: Session, chosen: list[int]) -> tuple[int, ...] | None:
    there = {gpu.index for gpu in (hardware_of(session) or context.service.usable()).gpus}
    if not chosen:
        raise SettingInvalid(
            name=by_hand.quoted("gpus"),
            value=Text("custom.none", "none at all"),
            detail=Text("custom.needs_one", "The preset CPU only is what runs without any GPU."),
            suggestion=Text("custom.choose_one", "Choose at least one, or that preset."),
        )
    return None if set(chosen) == there else tuple(sorted(chosen))


def wire(page: Page, context: Context) -> None:
    """Attach the handlers."""
    custom = page.custom
    outputs = [page.setup.preset, *page.live]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}

    def on(
        event: Callable[..., Any],
        component: Any,  # noqa: ANN401 - the component whose value is taken, or None
        act: Callable[..., None],
        *touched: str,
    ) -> None:
        def handle(request: gr.Request, *value: Any) -> list[Any]:  # noqa: ANN401 - any component's value
            session = context.session(request)
            with session.deciding:
                before = session.request or context.start
                try:
                    act(session, *value)
                except SnugError as error:
                    session.problem, session.notes = error, ()
                now = session.request or context.start
                preset = gr.skip() if now.preset is before.preset else gr.Dropdown(value=now.preset.value)
                return [preset, *refresh(context, session, touched)]

        event(handle, component, outputs, trigger_mode="always_last", **quiet)

    _wire_values(custom, context, on)
    _wire_typed(custom, context, on)
    _wire_limits(custom, context, on)
    _wire_map(custom, context, on)

    def reset(session: Session) -> None:
        change(context, session, Overrides())
        forget_draft(context, session)

    on(custom.reset.click, None, reset)

    def undone(event: gr.EventData, request: gr.Request) -> list[Any]:
        session = context.session(request)
        with session.deciding:
            undo(context, session, str(event.setting))
        return [gr.skip(), *refresh(context, session)]

    custom.intro.undo(undone, None, outputs, **quiet)
    custom.kept.change(None, custom.kept, None, js=theme.ON_KEEP)


def _sets(context: Context, field: str, parse: Callable[[Any], Any]) -> Callable[[Session, Any], None]:
    def act(session: Session, value: Any) -> None:  # noqa: ANN401 - any component's value
        made: dict[str, Any] = {field: parse(value)}
        change(context, session, replace((session.request or context.start).overrides, **made))

    return act


def _wire_values(custom: Custom, context: Context, on: Callable[..., None]) -> None:
    parsers: dict[str, Callable[[Any], Any]] = {
        **{field: partial(by_hand.number, field) for field in _NUMBERS},
        "precision": lambda value: value or None,
        "cpu_layers_mode": lambda value: value or None,
        "template": lambda value: value or None,
    }
    for field, parse in parsers.items():
        component = getattr(custom, field)
        on(component.input, component, _sets(context, field, parse), field)

    def choose_engine(session: Session, value: str) -> None:
        kept = by_hand.for_engine((session.request or context.start).overrides, _ENGINES.get(value))
        change(context, session, kept.overrides)
        session.notes = (*session.notes, *kept.dropped)

    on(custom.engine.input, custom.engine, choose_engine, "engine")

    def leave_room(_session: Session, on_: bool) -> None:
        context.service.set_leave_room(bool(on_))

    on(custom.leave_room.input, custom.leave_room, leave_room, "leave_room")

    def choose_gpus(session: Session, chosen: list[int]) -> None:
        _sets(context, "gpus", lambda value: _gpus(context, session, value))(session, chosen)

    on(custom.gpus.input, custom.gpus, choose_gpus, "gpus")


def _wire_typed(custom: Custom, context: Context, on: Callable[..., None]) -> None:
    def folder(session: Session, written: str | None) -> None:
        if not session.is_echo("custom.offload_dir=", written or ""):
            session.problem = None
            _sets(context, "offload_dir", by_hand.folder)(session, written)

    # What is pasted changes a text without a key: `input` would not tell.
    on(custom.offload_dir.change, custom.offload_dir, folder, "offload_dir")

    def named(field: str, session: Session, written: str | None) -> None:
        if by_hand.named_model(written) != getattr((session.request or context.start).overrides, field):
            _sets(context, field, by_hand.named_model)(session, written)

    # A model is looked for where the name leads: half a name may lead to a share that does not answer.
    for field in companions.FOLDERS:
        component = getattr(custom, field)
        for event in (component.blur, component.submit):
            on(event, component, partial(named, field), field)


def _wire_limits(custom: Custom, context: Context, on: Callable[..., None]) -> None:
    def limit(session: Session, device: str, gib: float) -> None:
        overrides = (session.request or context.start).overrides
        nbytes = int(min(max(0, gib), _MOST_GIB) * GIB)
        change(context, session, by_hand.with_limit(overrides, device, nbytes))

    def of_gpu(session: Session, gib: float) -> None:
        gpus = (hardware_of(session) or context.service.usable()).gpus
        gpu = limited_gpu(gpus, session.limited)
        if gpu is not None:
            limit(session, f"cuda:{gpu.index}", gib)

    def choose_gpu(session: Session, index: int) -> None:
        session.limited = index

    on(custom.limited_gpu.input, custom.limited_gpu, choose_gpu, "limited_gpu")
    on(custom.gpu_limit.input, custom.gpu_limit, of_gpu, "gpu_limit")
    on(custom.ram_limit.input, custom.ram_limit, lambda session, gib: limit(session, "cpu", gib), "ram_limit")


def _wire_map(custom: Custom, context: Context, on: Callable[..., None]) -> None:
    text = custom.map_text
    on(text.change, text, lambda session, written: map_written(context, session, written), "map_text")
    on(custom.map_use.click, text, lambda session, written: use_draft(context, session, written), "map_text")

    def automatic(session: Session) -> None:
        overrides = (session.request or context.start).overrides
        change(context, session, by_hand.without(overrides, "device_map"))
        forget_draft(context, session)

    on(custom.map_auto.click, None, automatic)
