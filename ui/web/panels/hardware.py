"""The machine, refreshed while the page is looked at."""

from __future__ import annotations

import gradio as gr

from backends.hardware.types import HardwareSnapshot
from ui.i18n import Translator
from ui.web.format import hardware_card


def build(snapshot: HardwareSnapshot, say: Translator) -> gr.HTML:
    """Lay the panel out, with the machine's figures at once."""
    return gr.HTML(hardware_card(snapshot, say), apply_default_css=False, elem_id="hardware")
