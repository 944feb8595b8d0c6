"""What a person's choices do to a tab's request: presets, models, settings by hand, a map being written."""

from __future__ import annotations

from dataclasses import replace

from backends.errors import SnugError
from backends.hardware.types import HardwareSnapshot
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from backends.text import Text
from ui import device_map
from ui.web import by_hand, kept
from ui.web.context import Context
from ui.web.sessions import Session


def make_plan(
    context: Context, request: PlanRequest, hardware: HardwareSnapshot | None = None
) -> Plan | SnugError:
    """The plan of a request for this machine or for `hardware`, or why there is none."""
    try:
        return context.service.plan(request, hardware)
    except SnugError as error:
        return by_hand.in_words(error)


def hardware_of(session: Session) -> HardwareSnapshot | None:
    """The machine that the tab plans for; None is this one."""
    return session.elsewhere.hardware if session.elsewhere else None


def settle(context: Context, session: Session, model: str, preset: Preset) -> None:
    """Take another model or preset: what still makes sense of the settings stays, the rest is named."""
    asked = session.request or context.start
    if (asked.model, asked.preset) == (model, preset):
        return
    overrides = asked.overrides
    dropped: tuple[Text, ...] = ()
    if preset is not asked.preset:
        kept = by_hand.for_preset(overrides, preset)
        overrides, dropped = kept.overrides, kept.dropped
    if model != asked.model:
        session.draft_plan = None
        based = by_hand.without_companions(overrides)
        try:
            kept = by_hand.for_model(based.overrides, context.service.inspect(model))
        except SnugError:
            # The plan's card says what is wrong with the model; the settings wait for another one.
            kept = by_hand.Kept(based.overrides)
        overrides, dropped = kept.overrides, (*dropped, *based.dropped, *kept.dropped)
    session.request = PlanRequest(model, preset, overrides)
    session.notes, session.problem = dropped, None


def restore(context: Context, session: Session, text: str) -> None:
    """Take up what the browser kept from the last visit: what still makes sense of it, the rest is named.

    What the page was started with by name comes first.
    """
    with session.deciding:
        _restore(context, session, text)


def _restore(context: Context, session: Session, text: str) -> None:
    if kept.leaves_room(text):
        context.service.set_leave_room(True)
    found = kept.from_text(text)
    if found is None or context.start != PlanRequest("starter"):
        return
    of_preset = by_hand.for_preset(found.overrides, found.preset)
    try:
        model = context.service.inspect(found.model, found.overrides)
    except SnugError:
        named = by_hand.companions_of(found.overrides)
        if not set(named).intersection(context.service.leans_on(found.model)):
            gone = Text.of("kept.model", "The model {model} is not there any more.", model=found.model)
            session.notes = (gone,)
            return
        # The plan's card says what is wrong with what the checkpoint leans on.
        of_model = by_hand.Kept(of_preset.overrides)
    else:
        # Kept with this model's name.
        of_model = by_hand.for_model(of_preset.overrides, model, own_map=True)
    of_machine = by_hand.for_machine(of_model.overrides, context.service.usable())
    session.request = PlanRequest(found.model, found.preset, of_machine.overrides)
    session.notes = (*of_preset.dropped, *of_model.dropped, *of_machine.dropped)


def change(context: Context, session: Session, overrides: Overrides) -> None:
    """Take settings that a person made; the preset becomes Custom where it would mean something else."""
    asked = session.request or context.start
    preset = by_hand.preset_for(overrides, asked.preset)
    session.notes, session.problem = (), None
    if preset is not asked.preset:
        sentence = Text.of(
            "custom.now_custom",
            "{before} would mean something else, so the preset is now {now}.",
            before=Text(f"preset.{asked.preset}", asked.preset),
            now=Text(f"preset.{preset}", preset),
        )
        session.notes = (sentence,)
    session.request = PlanRequest(asked.model, preset, overrides)


def undo(context: Context, session: Session, setting: str) -> None:
    """Let Snug choose one setting again; `max_memory:cuda:0` is one device's limit."""
    overrides = (session.request or context.start).overrides
    field, _, device = setting.partition(":")
    if device:
        limits = tuple(pair for pair in overrides.max_memory if pair[0] != device)
        change(context, session, replace(overrides, max_memory=limits))
    elif field in by_hand.set_fields(overrides):
        change(context, session, by_hand.without(overrides, field))
        if field == "device_map":
            forget_draft(context, session)


def forget_draft(context: Context, session: Session) -> None:
    """Show the plan's own map in the editor again."""
    session.drafts.pop((session.request or context.start).model, None)
    session.draft_plan = None


def map_written(context: Context, session: Session, text: str) -> None:
    """The editor's text has changed: check it, unless it was the page that wrote it."""
    if not session.is_echo("custom.map_text=", text):
        check_draft(context, session, text)


def check_draft(context: Context, session: Session, text: str) -> Plan | SnugError:
    """Let the planner look at the map that is being written, without using it."""
    asked = session.request or context.start
    session.drafts[asked.model] = text
    try:
        placed = device_map.from_text(text)
    except SnugError as error:
        session.draft_plan = error
        return error
    overrides = replace(asked.overrides, device_map=placed, gpu_layers=None)
    preset = by_hand.preset_for(overrides, asked.preset)
    made = make_plan(context, PlanRequest(asked.model, preset, overrides), hardware_of(session))
    session.draft_plan = made
    return made


def use_draft(context: Context, session: Session, text: str) -> None:
    """Make the map in the editor the plan's, when the planner finds nothing wrong with it."""
    made = check_draft(context, session, text)
    if isinstance(made, Plan):
        had_layers = (session.request or context.start).overrides.gpu_layers is not None
        change(context, session, made.request.overrides)
        if had_layers:
            why = Text("custom.map_places", "the map places every layer")
            name = by_hand.name_of("gpu_layers")
            dropped = Text.of("kept.dropped", "{name}: back to automatic, because {why}.", name=name, why=why)
            session.notes = (*session.notes, dropped)


def leave(context: Context, session: Session) -> None:
    """Plan for this machine again, with its own settings."""
    if session.elsewhere is None:
        return
    asked, before = session.request or context.start, session.elsewhere.before
    named = {field: getattr(before, field) for field in by_hand.OF_MACHINE}
    if named["device_map"] is not None and asked.overrides.gpu_layers is not None:
        named["device_map"] = None
    if asked.overrides.gpu_layers is None and named["device_map"] is None:
        named["gpu_layers"] = before.gpu_layers
    kept = by_hand.for_machine(replace(asked.overrides, **named), context.service.usable())
    session.request = replace(asked, overrides=kept.overrides)
    session.elsewhere, session.notes, session.description = None, kept.dropped, None
    session.draft_plan = None
