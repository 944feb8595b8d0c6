"""What to run and how: model, preset, load and unload."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from backends.errors import SettingInvalid
from backends.models.types import ModelEntry
from backends.placement.types import PlanRequest
from backends.presets import Preset
from backends.service import ModelState
from backends.text import Text
from ui.i18n import Translator
from ui.web.route import Route

_MOST_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Setup:
    """Components of the panel."""

    model: gr.Dropdown
    preset: gr.Dropdown
    load: gr.Button
    unload: gr.Button
    note: gr.HTML

    @property
    def inputs(self) -> list[Any]:
        """What is chosen: model and preset."""
        return [self.model, self.preset]


def build_choices(say: Translator, entries: tuple[ModelEntry, ...], start: PlanRequest) -> tuple[Any, ...]:
    """Model and preset: what stands above the plan."""
    model = gr.Dropdown(
        model_choices(entries, start.model),
        value=start.model,
        label=say("setup.model"),
        info=say("setup.model_info"),
        allow_custom_value=True,
        elem_id="model",
    )
    preset = gr.Dropdown(
        preset_choices(say),
        value=start.preset.value,
        label=say("setup.preset"),
        info=say(f"preset.{start.preset}.info"),
        elem_id="preset",
        filterable=False,
    )
    return model, preset


def build_buttons(say: Translator) -> tuple[Any, ...]:
    """Load and unload: what stands below the plan."""
    note = gr.HTML("", apply_default_css=False, elem_id="setup-note")
    with gr.Row(elem_id="load-row"):
        load = gr.Button(say("setup.load"), variant="primary", elem_id="load", min_width=0)
        unload = gr.Button(say("setup.unload"), elem_id="unload", min_width=0, visible=False)
    return load, unload, note


def model_choices(entries: tuple[ModelEntry, ...], current: str) -> list[tuple[str, str]]:
    """The dropdown's lines; a model given by its path stands there, too."""
    choices = [(entry.label, entry.key) for entry in entries]
    if current not in {key for _, key in choices}:
        choices.append((Path(current).name or current, current))
    return choices


def preset_choices(say: Translator) -> list[tuple[str, str]]:
    """The presets in their order."""
    return [(say(f"preset.{preset}"), preset.value) for preset in Preset]


def model_named(written: str | None) -> str:
    """The model that a person means, by what stands in the dropdown; paths are pasted with quotes."""
    return (written or "starter").strip().strip('"') or "starter"


def whole_number(field: str, text: str, minimum: int) -> int | None:
    """Read an optional number field, None when empty. Raises `SettingInvalid` naming the field."""
    written = text.strip().replace(",", "").replace(" ", "")
    if not written:
        return None
    # More digits than 64 bits hold are no sensible value of any field.
    if written.isdecimal() and len(written) <= _MOST_DIGITS and int(written) >= minimum:
        return int(written)
    most = 10**_MOST_DIGITS - 1
    range_ = Text.of("ui.not_a_number", "It takes a whole number, {minimum} or more.", minimum=minimum)
    if written.isdecimal() and len(written) > _MOST_DIGITS:
        range_ = Text.of("ui.number_too_large", "It takes a whole number up to {most:count}.", most=most)
    raise SettingInvalid(
        name=Text(field, field),
        value=f'"{text.strip()[:40]}"',
        detail=range_,
        suggestion=Text("ui.not_a_number_remedy", "Correct it, or leave the field empty."),
    )


def loading_word(state: ModelState) -> str:
    """The key of what the button says while a model comes into memory."""
    if state.moving:
        return "setup.moving"
    converting = state.progress is not None and state.progress.stage == "converting"
    return "setup.converting" if converting else "setup.loading"


def buttons(state: ModelState, way: Route, say: Translator, *, possible: bool) -> tuple[Any, Any]:
    """What the two buttons say and whether they can be pressed, for the model's state."""
    if state.status == "loading":
        return (
            gr.Button(say(loading_word(state)), interactive=False),
            gr.Button(say("setup.cancel"), visible=True),
        )
    same = way.kind == "same"
    return (
        gr.Button(
            way.label(say), interactive=possible and not same, variant="secondary" if same else "primary"
        ),
        gr.Button(say("setup.unload"), visible=state.status == "ready"),
    )


def texts(setup: Setup) -> tuple[Any, ...]:
    """Components whose words change with the language; `translate` gives their updates in this order."""
    return setup.model, setup.preset


def translate(say: Translator, asked: PlanRequest, entries: tuple[ModelEntry, ...]) -> tuple[Any, ...]:
    """The updates of `texts`; models that came since the page was made are in the list."""
    preset = asked.preset
    return (
        gr.Dropdown(
            label=say("setup.model"),
            choices=model_choices(entries, asked.model),
            info=say("setup.model_info"),
        ),
        gr.Dropdown(
            label=say("setup.preset"), choices=preset_choices(say), info=say(f"preset.{preset}.info")
        ),
    )
