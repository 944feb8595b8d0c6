"""What a checkpoint leans on, among the settings by hand: base, vision tower, tokenizer and template."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path, PureWindowsPath
from typing import Any

import gradio as gr

from backends.models.types import ModelInfo
from backends.placement.types import Overrides
from ui.i18n import Translator
from ui.web.drawing import Shown

# Those that a person names by a folder or a model's name, in the page's order.
FOLDERS = ("base", "vision_tower", "tokenizer")


def build() -> tuple[gr.Textbox, gr.Textbox, gr.Textbox, gr.Dropdown]:
    """Lay the fields out, in the order of `FOLDERS`, then the template; they are seen where they apply."""
    base, tower, tokenizer = (
        gr.Textbox("", visible=False, interactive=True, elem_id=field.replace("_", "-")) for field in FOLDERS
    )
    template = gr.Dropdown(
        [("", "")], value="", visible=False, filterable=False, interactive=True, elem_id="template"
    )
    return base, tower, tokenizer, template


def short(written: str) -> str:
    """The last part of a folder or of a model's name, whichever system's path it is."""
    return PureWindowsPath(written).name or written


def view(
    say: Translator,
    overrides: Overrides,
    model: ModelInfo | None,
    leans_on: Collection[str],
    words: Callable[[str], dict[str, Any]],
) -> dict[str, Shown]:
    """How the fields look; `leans_on` counts also where the model can't be read, for want of just that."""
    shown = {field: _folder(say, field, overrides, model, leans_on, words) for field in FOLDERS}
    names = model.templates if model is not None else ()
    chosen = overrides.template
    if chosen is not None and chosen not in names:
        names = (*names, chosen)
    found = model.companions.template if model is not None and chosen is None else None
    by_snug = say("custom.found_named", name=found) if found else say("custom.found")
    choices = [(by_snug, ""), *((name, name) for name in names)]
    shown["template"] = Shown(
        # One format only is no choice; the plan's card names it.
        {**words("template"), "choices": choices, "visible": len(names) > 1 or chosen is not None},
        overrides.template or "",
    )
    return shown


def _folder(  # noqa: PLR0917 - what `view` knows, and the field
    say: Translator,
    field: str,
    overrides: Overrides,
    model: ModelInfo | None,
    leans_on: Collection[str],
    words: Callable[[str], dict[str, Any]],
) -> Shown:
    """A field for a folder; while it is empty, it shows the one that was found."""
    found = _elsewhere(field, model)
    written = getattr(overrides, field)
    props = {
        **words(field),
        "placeholder": str(found) if found is not None else say("custom.automatic"),
        "visible": field in leans_on or found is not None or written is not None,
    }
    return Shown(props, written or "")


def _elsewhere(field: str, model: ModelInfo | None) -> Path | None:
    """What was found for `field` outside of the model's own folder."""
    if model is None:
        return None
    found: Path | None = getattr(model.companions, field)
    # A LoRA's words are its base's.
    known = (model.path,) if field == "base" else (model.path, model.companions.base)
    return None if found in known else found
