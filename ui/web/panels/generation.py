"""How answers are drawn: system prompt, temperature, top-p, length, seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from backends.messages import SamplingParams
from ui.i18n import Translator
from ui.web.panels.setup import whole_number

_DEFAULTS = SamplingParams()


@dataclass(frozen=True, slots=True)
class Generation:
    """Components of the panel."""

    box: gr.Accordion
    system: gr.Textbox
    temperature: gr.Slider
    top_p: gr.Slider
    max_tokens: gr.Slider
    seed: gr.Textbox

    @property
    def inputs(self) -> list[Any]:
        """What `sampling` takes, in its order, after the system prompt."""
        return [self.system, self.temperature, self.top_p, self.max_tokens, self.seed]


def build(say: Translator) -> Generation:
    """Lay the panel out."""
    with gr.Accordion(say("generation.title"), open=False, elem_id="generation") as box:
        system = gr.Textbox(label=say("generation.system"), info=say("generation.system_info"), lines=2)
        temperature = gr.Slider(0, 2, _DEFAULTS.temperature, step=0.05, label=say("generation.temperature"),
                                info=say("generation.temperature_info"))  # fmt: skip
        top_p = gr.Slider(0.05, 1, _DEFAULTS.top_p, step=0.05, label=say("generation.top_p"),
                          info=say("generation.top_p_info"))  # fmt: skip
        max_tokens = gr.Slider(16, 2048, _DEFAULTS.max_tokens, step=16, label=say("generation.max_tokens"),
                               info=say("generation.max_tokens_info"))  # fmt: skip
        seed = gr.Textbox("", label=say("generation.seed"), info=say("generation.seed_info"))
    return Generation(box, system, temperature, top_p, max_tokens, seed)


def sampling(temperature: float, top_p: float, max_tokens: float, seed: str) -> SamplingParams:
    """The panel's values; an emptied field means its default. Raises `SettingInvalid`."""
    return SamplingParams(
        temperature=float(_DEFAULTS.temperature if temperature is None else temperature),
        top_p=float(top_p or _DEFAULTS.top_p),
        max_tokens=int(max_tokens or _DEFAULTS.max_tokens),
        seed=whole_number("generation.seed", seed or "", 0),
    )


def texts(generation: Generation) -> tuple[Any, ...]:
    """Components whose words change with the language; `translate` gives their updates in this order."""
    return (generation.box, *generation.inputs)


def translate(say: Translator) -> tuple[Any, ...]:
    """The updates of `texts`."""

    def words(name: str) -> dict[str, str]:
        return {"label": say(f"generation.{name}"), "info": say(f"generation.{name}_info")}

    return (
        gr.Accordion(label=say("generation.title")),
        gr.Textbox(**words("system")),
        gr.Slider(**words("temperature")),
        gr.Slider(**words("top_p")),
        gr.Slider(**words("max_tokens")),
        gr.Textbox(**words("seed")),
    )
