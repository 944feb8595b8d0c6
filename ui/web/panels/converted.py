"""The converted files that are kept: how much they take, and a button that removes them when asked twice."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from backends.service.converted import ConvertedUsage
from backends.text import human_bytes
from ui.i18n import Translator
from ui.web.drawing import Shown
from ui.web.html import esc


@dataclass(frozen=True, slots=True)
class Converted:
    """Components of the panel."""

    box: gr.Accordion
    about: gr.HTML
    clear: gr.Button
    remove: gr.Button
    keep: gr.Button

    @property
    def outputs(self) -> list[Any]:
        """The components in the order of `NAMES`."""
        return [getattr(self, name) for name in NAMES]


# What `view` calls the components.
NAMES = tuple(field.name for field in fields(Converted))


@dataclass(frozen=True, slots=True)
class About:
    """What the panel is drawn from.

    `asking`: the person has pressed Clear and is asked whether they mean it; `freed` are the bytes that came
    free by it, None before.
    """

    usage: ConvertedUsage
    asking: bool = False
    freed: int | None = None


def build(say: Translator) -> Converted:
    """Lay the panel out; it is seen once there are files."""
    with gr.Accordion(say("kept_files.title_empty"), open=False, visible=False, elem_id="converted") as box:
        about = gr.HTML("", apply_default_css=False, elem_id="converted-about")
        with gr.Row(elem_classes="sn-row"):
            clear = gr.Button(say("kept_files.clear"), size="sm", min_width=0, elem_id="converted-clear")
            remove = gr.Button(say("kept_files.remove"), size="sm", min_width=0, variant="primary",
                               visible=False, elem_id="converted-remove")  # fmt: skip
            keep = gr.Button(say("kept_files.keep"), size="sm", min_width=0, visible=False,
                             elem_id="converted-keep")  # fmt: skip
    return Converted(box, about, clear, remove, keep)


def view(say: Translator, about: About) -> dict[str, Shown]:
    """How every component looks, by its name."""
    usage = about.usage
    there = usage.nbytes > 0
    asking = about.asking and usage.removable_bytes > 0
    title = (
        say("kept_files.title", size=human_bytes(usage.nbytes)) if there else say("kept_files.title_empty")
    )
    return {
        "box": Shown({"label": title, "visible": there or about.freed is not None}),
        "about": Shown({}, _sentences(say, about, asking=asking)),
        "clear": Shown(
            {
                "value": say("kept_files.clear"),
                "visible": there and not asking,
                "interactive": usage.removable_bytes > 0,
            }
        ),
        "remove": Shown({"value": say("kept_files.remove"), "visible": asking}),
        "keep": Shown({"value": say("kept_files.keep"), "visible": asking}),
    }


def _sentences(say: Translator, about: About, *, asking: bool) -> str:
    usage = about.usage
    told = []
    if usage.nbytes:
        told.append(
            say(
                "kept_files.about",
                size=usage.nbytes,
                count=usage.models,
                limit=usage.limit_bytes,
            )
        )
    if usage.used_bytes:
        told.append(say("kept_files.in_use", size=usage.used_bytes))
    said = "".join(f'<p class="sn-note">{esc(sentence)}</p>' for sentence in told)
    if asking:
        question = say("kept_files.sure", size=usage.removable_bytes)
        return f'{said}<p class="sn-note sn-asked" role="alert">{esc(question)}</p>'
    if about.freed is None:
        return said
    came_free = say("kept_files.freed", size=about.freed) if about.freed else say("kept_files.none_freed")
    return f'{said}<p class="sn-note" role="status">{esc(came_free)}</p>'
