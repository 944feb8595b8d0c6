"""Planning for a machine that is not this one, and what this one would need."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from backends.errors import SnugError
from backends.hardware.describe import to_json
from backends.placement.needs import Needs
from ui.i18n import Translator
from ui.web import machines
from ui.web.drawing import Shown
from ui.web.format import error_card, short_gpu
from ui.web.html import esc
from ui.web.sessions import Elsewhere

HERE, OWN = "", "own"


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Components of the panel."""

    back: gr.Button
    box: gr.Accordion
    machine: gr.Dropdown
    card: gr.Dropdown
    count: gr.Number
    gib: gr.Number
    ram: gr.Number
    os: gr.Radio
    described: gr.Accordion
    description: gr.Textbox
    upload: gr.UploadButton
    check: gr.HTML
    ask: gr.Button
    answer: gr.HTML
    take: gr.Button

    @property
    def outputs(self) -> list[Any]:
        """The components in the order of `NAMES`."""
        return [getattr(self, name) for name in NAMES]

    @property
    def parts(self) -> list[Any]:
        """The fields of a machine, in the order of `read_parts`."""
        return [self.card, self.count, self.gib, self.ram, self.os]


# What `view` calls the components.
NAMES = tuple(field.name for field in fields(WhatIf))


@dataclass(frozen=True, slots=True)
class About:
    """What the panel is drawn from. `needs` is the answer to the question about the current request."""

    elsewhere: Elsewhere | None
    problem: SnugError | None = None
    needs: Needs | SnugError | None = None


def build_back(say: Translator) -> gr.Button:
    """The way back. The button that is seen stands in the plan's banner and presses this one."""
    return gr.Button(say("whatif.back"), elem_id="whatif-back")


def build(say: Translator, back: gr.Button) -> WhatIf:
    """Lay the panel out; the first tick fills it."""
    with gr.Accordion(say("whatif.title"), open=False, elem_id="whatif") as box:
        machine = gr.Dropdown(
            [("", HERE)], value=HERE, filterable=False, elem_id="whatif-machine", interactive=True
        )
        card = gr.Dropdown(
            [("", "")], value="", allow_custom_value=True, elem_id="whatif-card", interactive=True
        )
        field: dict[str, Any] = {"interactive": True, "elem_classes": "sn-field"}
        count = gr.Number(0, precision=0, elem_id="whatif-count", **field)
        gib = gr.Number(elem_id="whatif-gib", **field)
        ram = gr.Number(16, elem_id="whatif-ram", **field)
        system = gr.Radio([(name, name) for name in machines.SYSTEMS], elem_id="whatif-os", interactive=True)
        check = gr.HTML("", apply_default_css=False, elem_id="whatif-check")
        with gr.Accordion("", open=False, elem_id="whatif-described", elem_classes="sn-inner") as described:
            text = gr.Textbox("", lines=5, max_lines=12, elem_id="whatif-text", interactive=True)
            upload = gr.UploadButton("", size="sm", file_types=None, elem_id="whatif-upload")
        ask = gr.Button("", size="sm", elem_id="whatif-ask")
        answer = gr.HTML("", apply_default_css=False, elem_id="whatif-answer")
        take = gr.Button("", size="sm", variant="primary", visible=False, elem_id="whatif-take")
    return WhatIf(
        back, box, machine, card, count, gib, ram, system, described, text, upload, check, ask, answer, take
    )


def view(say: Translator, about: About) -> dict[str, Shown]:
    """How every component looks, by its name."""
    away = about.elsewhere
    parts = machines.parts_of(away.hardware) if away else machines.Parts()
    chosen = HERE
    if away is not None:
        chosen = away.key if away.key in machines.TYPICAL else OWN
    described = json.dumps(to_json(away.hardware), indent=1, ensure_ascii=False) if away else ""
    problem = error_card(about.problem, say) if about.problem else ""
    return {
        "back": Shown({}),
        "box": Shown({"label": say("whatif.title")}),
        "machine": Shown({**_words(say, "machine"), "choices": _choices(say)}, chosen),
        "card": Shown({**_words(say, "card"), "choices": _cards(say)}, parts.card),
        "count": Shown(_words(say, "count"), parts.count),
        "gib": Shown(_words(say, "gib"), parts.gib or 0),
        "ram": Shown(_words(say, "ram"), parts.ram_gib),
        "os": Shown(
            {**_words(say, "os"), "choices": [(_SYSTEM[name], name) for name in machines.SYSTEMS]}, parts.os
        ),
        "described": Shown({"label": say("whatif.described")}),
        "description": Shown(_words(say, "description"), described),
        "upload": Shown({"label": say("whatif.upload")}),
        "check": Shown({}, problem),
        "ask": Shown({"value": say("whatif.ask")}),
        "answer": Shown({}, _answer(say, about.needs)),
        "take": Shown(
            {
                "value": say("whatif.take"),
                "visible": isinstance(about.needs, Needs) and about.needs.change is not None,
            }
        ),
    }


_SYSTEM = {"windows": "Windows", "linux": "Linux", "macos": "macOS"}


def _words(say: Translator, field: str) -> dict[str, Any]:
    return {"label": say(f"whatif.{field}"), "info": say(f"whatif.{field}_info")}


def _choices(say: Translator) -> list[tuple[str, str]]:
    typical = [(say(f"machine.{key}"), key) for key in machines.TYPICAL]
    return [(say("whatif.here"), HERE), *typical, (say("whatif.own"), OWN)]


def _cards(say: Translator) -> list[tuple[str, str]]:
    named = [(short_gpu(name), name) for name in machines.card_names()]
    return [(say("whatif.no_card"), ""), *named]


def _answer(say: Translator, needs: Needs | SnugError | None) -> str:
    if needs is None:
        return f'<p class="sn-note">{esc(say("whatif.ask_note"))}</p>'
    if isinstance(needs, SnugError):
        return error_card(needs, say)
    lines = "".join(f"<li>{esc(say.text(sentence))}</li>" for sentence in needs.sentences)
    return f'<ul class="sn-needs" role="status">{lines}</ul>'


def banner(say: Translator, away: Elsewhere | None) -> str:
    """What stands above a plan for another machine, so that nobody takes it for this one's."""
    if away is None:
        return ""
    words = say("whatif.banner", name=say.text(away.name))
    back = (
        f'<button type="button" class="sn-chip" data-press="whatif-back">{esc(say("whatif.back"))}</button>'
    )
    return f'<p class="sn-elsewhere" role="status"><span>{esc(words)}</span>{back}</p>'


def read_parts(
    card: str | None, count: float | None, gib: float | None, ram: float | None, system: str
) -> machines.Parts:
    """The fields as parts; an emptied number means none, or what the data sheet says."""
    return machines.Parts(
        card=card or "",
        count=count or 0,
        gib=gib or None,
        ram_gib=ram or 0,
        os=system or machines.SYSTEMS[0],
    )
