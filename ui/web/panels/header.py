"""The line at the top: name, model state, language, light or dark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from backends.service import ModelState
from ui.i18n import Translator
from ui.loading import progress_text
from ui.naming import short_name
from ui.web.html import badge

# Stages whose share is worth telling.
_MEASURED = {"read": "status.loading", "converting": "status.converting", "move": "status.moving"}
BRAND = '<h1 class="sn-brand">Snug</h1>'


@dataclass(frozen=True, slots=True)
class Header:
    """Components of the panel."""

    setup: gr.Button
    status: gr.HTML
    language: gr.Radio
    theme: gr.Button


def build(say: Translator) -> Header:
    """Lay the panel out."""
    with gr.Row(elem_id="header"):
        setup = gr.Button(say("ui.setup"), elem_id="setup-toggle", size="sm", min_width=0, scale=0)
        gr.HTML(BRAND, apply_default_css=False, elem_id="brand")
        status = gr.HTML("", apply_default_css=False, elem_id="status")
        language = gr.Radio(
            [("EN", "en"), ("中", "zh")],
            value=say.language,
            label=say("ui.language"),
            show_label=False,
            container=False,
            elem_id="language",
            min_width=0,
            scale=0,
        )
        theme = gr.Button("◐", elem_id="theme-toggle", size="sm", min_width=0, scale=0)
    return Header(setup, status, language, theme)


def texts(header: Header) -> tuple[Any, ...]:
    """Components whose words change with the language; `translate` gives their updates in this order."""
    return (header.setup, header.language)


def translate(say: Translator) -> tuple[Any, ...]:
    """The updates of `texts`."""
    return (gr.Button(say("ui.setup")), gr.Radio(label=say("ui.language"), value=say.language))


def status_html(state: ModelState, say: Translator) -> str:
    """The model's state as a badge; a screen reader says when it changes."""
    if state.status == "loading":
        text = progress_text(state.progress, say)
        progress = state.progress
        if progress is not None and progress.stage in _MEASURED and progress.total:
            percent = f"{100 * progress.done / progress.total:.0f}"
            text = say(_MEASURED[progress.stage], percent=percent)
    elif state.status == "ready" and state.report is not None and state.plan is not None:
        devices = {device.partition(":")[0] for _, device in state.report.device_map}
        where = " + ".join(
            name for key, name in (("cuda", "GPU"), ("cpu", "CPU"), ("disk", "disk")) if key in devices
        )
        loaded = short_name(state.report.engine, state.report.precision)
        text = say("status.ready", precision=loaded, where=where or "CPU")
    else:
        text = say(f"status.{state.status}")
    return f'<div role="status" aria-live="polite">{badge("state-" + state.status, text)}</div>'
