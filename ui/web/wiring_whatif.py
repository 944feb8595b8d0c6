"""Events of the what-if panel: another machine comes and goes, and "what would I need?" is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from backends.errors import SettingInvalid, SnugError
from backends.hardware.describe import read_text
from backends.hardware.types import HardwareSnapshot
from backends.placement.needs import Needs
from backends.text import Text
from ui.web import by_hand, machines
from ui.web.context import Context
from ui.web.panels import whatif as panel
from ui.web.planning import forget_draft, leave
from ui.web.sessions import Elsewhere, Session
from ui.web.wiring_model import Page, refresh

# A description is a few kilobytes; more is another file.
_LARGEST_BYTES = 1_000_000
_DESCRIBED = ("description",)


def go(context: Context, session: Session, key: str, name: Text | str, hardware: HardwareSnapshot) -> None:
    """Plan for another machine; settings that name parts of this one wait until the person is back."""
    asked = session.request or context.start
    before = session.elsewhere.before if session.elsewhere else asked.overrides
    kept = by_hand.for_machine(asked.overrides, hardware)
    session.elsewhere = Elsewhere(key, name, hardware, before)
    session.request = replace(asked, overrides=kept.overrides)
    session.notes, session.problem, session.description, session.draft_plan = kept.dropped, None, None, None


def put_together(context: Context, session: Session, parts: machines.Parts) -> None:
    """Plan for a machine of these parts. Raises SettingInvalid."""
    hardware = machines.build(parts)
    gpus, ram = hardware.gpus, hardware.ram.total_bytes
    name = Text.of("machine.own_cpu", "no GPU, {ram:bytes} of RAM", ram=ram)
    if gpus:
        count, card = len(gpus), gpus[0].name
        name = Text.of("machine.own", "{count} x {card}, {ram:bytes} of RAM", count=count, card=card, ram=ram)
    go(context, session, panel.OWN, name, hardware)


def describe(context: Context, session: Session, text: str) -> None:
    """Plan for a described machine (what `doctor --json` prints). Raises SettingInvalid."""
    if not text.strip():
        leave(context, session)
        return
    name = Text("machine.description", "The description")
    hardware = read_text(text, name, Text("machine.be_read", "read"), _SOURCE)
    go(context, session, panel.OWN, Text("machine.described", "the machine described below"), hardware)


def ask_needs(context: Context, session: Session) -> None:
    """Find out what the current request would need."""
    asked = session.request or context.start
    answer: Needs | SnugError
    try:
        answer = context.service.needs(asked, session.elsewhere.hardware if session.elsewhere else None)
    except SnugError as error:
        answer = error
    session.needs = (asked, answer)


def choose(context: Context, session: Session, key: str) -> None:
    """Take a line of the dropdown: a typical machine, this one, or one to put together."""
    if key in machines.TYPICAL:
        hardware = machines.build(machines.TYPICAL[key])
        go(context, session, key, Text(f"machine.{key}", key), hardware)
    elif key == panel.HERE:
        leave(context, session)
    elif session.elsewhere is None:
        put_together(context, session, machines.with_card(machines.Parts(ram_gib=32), _FIRST_CARD))
    else:
        session.elsewhere = replace(session.elsewhere, key=panel.OWN)


def from_parts(context: Context, session: Session, *values: Any) -> None:  # noqa: ANN401 - the fields' values
    """Take the fields as they are."""
    put_together(context, session, panel.read_parts(*values))


def from_card(context: Context, session: Session, *values: Any) -> None:  # noqa: ANN401 - the fields' values
    """Take another card, with its own memory."""
    parts = panel.read_parts(*values)
    put_together(context, session, machines.with_card(parts, parts.card))


def upload(context: Context, session: Session, path: str | None) -> None:
    """Take a description from a file. Raises SettingInvalid."""
    if path:
        describe(context, session, _read(Path(path)))


def take(context: Context, session: Session) -> None:
    """Make the answer's nearest change."""
    answer = session.needs[1] if session.needs else None
    if isinstance(answer, Needs) and answer.change is not None:
        session.request, session.notes = answer.change, ()
        forget_draft(context, session)


def wire(page: Page, context: Context) -> None:
    """Attach the handlers."""
    what = page.whatif
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}

    def on(event: Callable[..., Any], inputs: list[Any], act: Callable[..., None], *touched: str) -> None:
        def handle(request: gr.Request, *values: Any) -> list[Any]:  # noqa: ANN401 - any component's value
            session = context.session(request)
            with session.deciding:
                before = (session.request or context.start).preset
                if touched != _DESCRIBED or not session.is_echo("custom.whatif.description=", *values):
                    session.description = None
                    try:
                        act(context, session, *values)
                    except SnugError as error:
                        session.description = error
                preset = (session.request or context.start).preset
                shown = gr.skip() if preset is before else gr.Dropdown(value=preset.value)
                return [shown, *refresh(context, session, touched)]

        event(handle, inputs, [page.setup.preset, *page.live],
              trigger_mode="always_last", **quiet)  # fmt: skip

    on(what.machine.input, [what.machine], choose, "machine")
    on(what.card.input, what.parts, from_card, "card")
    for name in ("count", "gib", "ram", "os"):
        on(getattr(what, name).input, what.parts, from_parts, name)
    on(
        what.description.change,
        [what.description],
        describe,
        *_DESCRIBED,
    )
    on(what.upload.upload, [what.upload], upload)
    on(what.back.click, [], leave)
    on(what.ask.click, [], ask_needs)
    on(what.take.click, [], take)


_SOURCE = Text("machine.the_description", "the description")
_FIRST_CARD = "NVIDIA GeForce RTX 3060"


def _read(path: Path) -> str:
    try:
        if path.stat().st_size <= _LARGEST_BYTES:
            return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        pass
    raise SettingInvalid(
        name=path.name,
        value=Text("machine.be_read", "read"),
        detail=Text("machine.no_text", "It is not a text of a few kilobytes."),
        suggestion=Text("cli.hardware_remedy", '`doctor --json` prints such a description under "hardware".'),
    )
