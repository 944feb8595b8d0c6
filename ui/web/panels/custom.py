"""Settings by hand: what the preset Custom means, and what any other preset may be refined with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import gradio as gr

from backends.errors import SnugError
from backends.hardware.types import Gpu, HardwareSnapshot
from backends.models.types import ModelInfo
from backends.placement.types import Plan, PlanRequest
from backends.presets import Preset
from backends.text import Text, human_bytes
from ui.device_map import to_json, to_text
from ui.i18n import Translator
from ui.naming import engine_name
from ui.overrides import command_line
from ui.web import by_hand, kept
from ui.web.drawing import Shown
from ui.web.format import error_card, short_gpu
from ui.web.html import badge, esc, undo_chip
from ui.web.panels import companions, engines
from ui.web.panels.engines import Running

GIB = 2**30
_MODES = ("compute", "stream")
_UNDO = """element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-undo]');
  if (button) trigger('undo', { setting: button.dataset.undo });
});"""


@dataclass(frozen=True, slots=True)
class Custom:
    """Components of the panel."""

    box: gr.Accordion
    intro: gr.HTML
    base: gr.Textbox
    vision_tower: gr.Textbox
    tokenizer: gr.Textbox
    template: gr.Dropdown
    engine: gr.Dropdown
    gpus: gr.CheckboxGroup
    gpu_layers: gr.Slider
    precision: gr.Dropdown
    leave_room: gr.Checkbox
    context_tokens: gr.Number
    images: gr.Number
    image_tokens: gr.Slider
    cost: gr.HTML
    cpu_layers_mode: gr.Radio
    memory_box: gr.Accordion
    limited_gpu: gr.Dropdown
    gpu_limit: gr.Slider
    ram_limit: gr.Slider
    offload_dir: gr.Textbox
    map_box: gr.Accordion
    map_text: gr.Textbox
    map_check: gr.HTML
    map_use: gr.Button
    map_auto: gr.Button
    reset: gr.Button
    command: gr.Textbox
    map_json: gr.Textbox
    kept: gr.Textbox

    @property
    def outputs(self) -> list[Any]:
        """The components in the order of `NAMES`."""
        return [getattr(self, name) for name in NAMES]


# What `view` calls the components.
NAMES = tuple(field.name for field in fields(Custom))


@dataclass(frozen=True, slots=True)
class PictureCost:
    """What one picture takes at the chosen detail."""

    tokens: int
    nbytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class About:
    """What the panel is drawn from.

    `draft` is the text in the map's editor, when a person wrote there; `limited` the number of the GPU whose
    limit is shown; `leans_on` has the fields for what the model is not whole without.
    """

    request: PlanRequest
    plan: Plan | SnugError
    model: ModelInfo | None
    hardware: HardwareSnapshot
    elsewhere: bool = False
    draft: str | None = None
    draft_plan: Plan | SnugError | None = None
    cost: PictureCost | None = None
    limited: int | None = None
    leave_room: bool = False
    leans_on: tuple[str, ...] = ()

    @property
    def running(self) -> Running:
        """What decides which settings there are."""
        plan = self.plan if isinstance(self.plan, Plan) else None
        return Running(self.request.overrides, self.model, plan)


def build(say: Translator) -> Custom:
    """Lay the panel out; the first tick fills it."""
    with gr.Accordion(say("setup.custom"), open=False, elem_id="custom") as box:
        intro = gr.HTML("", apply_default_css=False, elem_id="custom-intro", js_on_load=_UNDO)
        leant_on = companions.build()
        engine = gr.Dropdown([("", "")], value="", filterable=False, interactive=True, elem_id="engine")
        gpus = gr.CheckboxGroup([], visible=False, interactive=True, elem_id="gpus")
        gpu_layers = gr.Slider(
            0, 1, 0, step=1, precision=0, interactive=True, buttons=[], elem_id="gpu-layers"
        )
        precision = gr.Dropdown([("", "")], value="", filterable=False, interactive=True, elem_id="precision")
        room = gr.Checkbox(value=False, label="", interactive=True, elem_id="leave-room")
        context = gr.Number(
            precision=0, step=64, interactive=True, elem_id="context", elem_classes="sn-field"
        )
        images = gr.Number(precision=0, interactive=True, elem_id="images", elem_classes="sn-field")
        detail = gr.Slider(
            0, 1, 0, step=1, precision=0, visible=False, interactive=True, buttons=[], elem_id="detail"
        )
        cost = gr.HTML("", apply_default_css=False, elem_id="detail-cost")
        mode = gr.Radio([("", "")], value="", interactive=True, elem_id="cpu-layers")
        with gr.Accordion("", open=False, elem_id="memory-box", elem_classes="sn-inner") as memory_box:
            which = gr.Dropdown([("", 0)], value=0, filterable=False, visible=False, interactive=True,
                                elem_id="limited-gpu")  # fmt: skip
            limit = gr.Slider(0, 1, 0, step=0.25, visible=False, interactive=True, buttons=[],
                              elem_id="gpu-limit")  # fmt: skip
            ram = gr.Slider(0, 1, 0, step=0.25, interactive=True, buttons=[], elem_id="ram-limit")
            offload = gr.Textbox("", interactive=True, elem_id="offload")
        with gr.Accordion("", open=False, elem_id="map-box", elem_classes="sn-inner") as map_box:
            text = gr.Textbox("", lines=4, max_lines=14, interactive=True, elem_id="map-text")
            check = gr.HTML("", apply_default_css=False, elem_id="map-check")
            with gr.Row(elem_classes="sn-row"):
                use = gr.Button("", size="sm", min_width=0, variant="primary")
                auto = gr.Button("", size="sm", min_width=0)
        reset = gr.Button("", size="sm", elem_id="custom-reset")
        command = gr.Textbox("", lines=2, interactive=False, buttons=["copy"], elem_id="command")
        json = gr.Textbox("", lines=3, max_lines=6, interactive=False, visible=False, buttons=["copy"],
                          elem_id="map-json")  # fmt: skip
        kept_text = gr.Textbox("", visible=False)
    return Custom(
        box, intro, *leant_on, engine, gpus, gpu_layers, precision, room, context, images, detail, cost, mode,
        memory_box, which, limit, ram, offload, map_box, text, check, use, auto, reset, command, json,
        kept_text,
    )  # fmt: skip


def view(say: Translator, about: About) -> dict[str, Shown]:
    """How every component looks, by its name."""
    return {
        **_frame(say, about),
        **companions.view(
            say, about.request.overrides, about.model, about.leans_on, partial(_words, say, about)
        ),
        **_devices(say, about),
        **_work(say, about),
        **_memory(say, about),
        **_map(say, about),
    }


def limited_gpu(gpus: Sequence[Gpu], chosen: int | None) -> Gpu | None:
    """The GPU whose limit is shown: the one that was chosen, else the first."""
    return next((gpu for gpu in gpus if gpu.index == chosen), gpus[0] if gpus else None)


def remarks(say: Translator, notes: Sequence[Text], problem: SnugError | None) -> str:
    """What became of settings, and what is wrong with the one just made: stands above the plan."""
    lines = "".join(f"<li>{esc(say.text(note))}</li>" for note in notes)
    listed = f'<ul class="sn-notes" role="status">{lines}</ul>' if lines else ""
    return listed + (error_card(problem, say) if problem else "")


def _words(say: Translator, about: About, field: str, **figures: Any) -> dict[str, Any]:  # noqa: ANN401 - figures of a sentence
    """A control's label, which says who set it, and its sentence."""
    by_whom = say("custom.by_hand" if field in by_hand.set_fields(about.request.overrides) else "custom.auto")
    return {"label": f"{say(f'custom.{field}')} · {by_whom}", "info": say(f"custom.{field}_info", **figures)}


def _frame(say: Translator, about: About) -> dict[str, Shown]:
    chips = _chips(say, about)
    title = say("custom.title_set", count=len(chips)) if chips else say("setup.custom")
    # A person who chooses the preset wants to see what it means.
    opened = {"open": True} if about.request.preset is Preset.CUSTOM else {}
    sentence = say("custom.intro") if not chips else say("custom.intro_set")
    command = command_line(about.request) + (" --hardware machine.json" if about.elsewhere else "")
    placed = about.request.overrides.device_map
    return {
        "box": Shown({"label": title, **opened}),
        "intro": Shown(
            {}, f'<p class="sn-note">{esc(sentence)}</p><div class="sn-chips">{"".join(chips)}</div>'
        ),
        "reset": Shown({"value": say("custom.reset"), "interactive": bool(chips)}),
        "command": Shown({"label": say("custom.command"), "info": say("custom.command_info")}, command),
        "map_json": Shown(
            {"label": "device_map.json", "info": say("custom.map_json_info"), "visible": placed is not None},
            to_json(placed or ()),
        ),
        # Another machine's settings are not for the next visit.
        "kept": Shown(
            {}, None if about.elsewhere else kept.to_text(about.request, leave_room=about.leave_room)
        ),
    }


def _chips(say: Translator, about: About) -> list[str]:
    """A button for each setting that was made by hand: it goes back to automatic."""

    def chip(setting: str, name: str, value: str) -> str:
        return undo_chip(setting, name, value, say("custom.undo", name=name))

    overrides, found = about.request.overrides, []
    for field in by_hand.set_fields(overrides):
        name = say.text(by_hand.name_of(field))
        if field == "max_memory":
            for device, nbytes in overrides.max_memory:
                named = _device_name(say, about, device)
                found.append(chip(f"max_memory:{device}", named, human_bytes(nbytes)))
        else:
            found.append(chip(field, name, _value(say, field, getattr(overrides, field))))
    return found


def _value(say: Translator, field: str, value: Any) -> str:  # noqa: ANN401 - any setting's value
    if field == "cpu_layers_mode":
        return say(f"custom.mode_{value}")
    if field == "engine":
        return engine_name(value)
    if field == "device_map":
        return say("custom.by_hand")
    if field in companions.FOLDERS:
        return companions.short(value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _device_name(say: Translator, about: About, device: str) -> str:
    gpus = {f"cuda:{gpu.index}": short_gpu(gpu.name) for gpu in about.hardware.gpus}
    name = say("hardware.ram") if device == "cpu" else gpus.get(device, device)
    return f"{device.removeprefix('cuda:')} · {name}" if len(gpus) > 1 and device in gpus else name


def _devices(say: Translator, about: About) -> dict[str, Shown]:
    overrides, gpus, running = about.request.overrides, about.hardware.gpus, about.running
    plan = running.plan
    layers = about.model.layers if about.model else plan.layers if plan else 1
    names = [
        (f"{gpu.index} · {short_gpu(gpu.name)} · {human_bytes(gpu.total_bytes)}", gpu.index) for gpu in gpus
    ]
    chosen = [gpu.index for gpu in gpus if overrides.gpus is None or gpu.index in overrides.gpus]
    words = _words(say, about, "gpu_layers", layers=layers)
    if not gpus:
        words["info"] = say("custom.no_gpu")
    elif running.idle_gpus:
        words["info"] = say("custom.llama_cpu")
    elif overrides.device_map is not None:
        words["info"] = say("custom.map_decides")
    on_gpu = overrides.gpu_layers if overrides.gpu_layers is not None else plan.gpu_layers if plan else None
    idle = not gpus or (running.idle_gpus and running.only_llamacpp)
    able = {"interactive": not idle and overrides.device_map is None, "maximum": max(1, layers)}
    streams = bool(gpus) and not running.only_llamacpp
    modes = [(say("custom.automatic"), ""), *((say(f"custom.mode_{mode}"), mode) for mode in _MODES)]
    return {
        **engines.view(say, running, partial(_words, say, about)),
        "leave_room": Shown(
            {"label": say("custom.leave_room"), "info": say("custom.leave_room_info")}, about.leave_room
        ),
        "gpus": Shown({**_words(say, about, "gpus"), "choices": names, "visible": bool(gpus)}, chosen),
        "gpu_layers": Shown({**words, **able}, None if on_gpu is None else min(on_gpu, max(1, layers))),
        "cpu_layers_mode": Shown(
            {**_words(say, about, "cpu_layers_mode"), "choices": modes, "visible": streams},
            overrides.cpu_layers_mode or "",
        ),
    }


def _work(say: Translator, about: About) -> dict[str, Shown]:
    overrides, model = about.request.overrides, about.model
    plan = about.plan if isinstance(about.plan, Plan) else None

    def or_planned(field: str) -> Any:  # noqa: ANN401 - a number, or None while there is no plan
        by_person = getattr(overrides, field)
        return by_person if by_person is not None else getattr(plan, field) if plan else None

    most = model.text.max_context if model else 0
    sees = model is None or model.vision is not None
    detail = by_hand.detail_range(model) if model else range(0)
    bounds = {"minimum": detail[0], "maximum": detail[-1]} if len(detail) > 1 else {}
    context = _words(say, about, "context_tokens", most=most)
    pictures = _words(say, about, "images") | ({} if sees else {"info": say("custom.text_only")})
    cost = about.cost
    spent = ""
    if cost is not None and bounds:
        words = say("custom.cost", tokens=cost.tokens, size=cost.nbytes, seconds=cost.seconds)
        spent = f'<p class="sn-note sn-cost" role="status">{esc(words)}</p>'
    tokens = or_planned("image_tokens")
    return {
        "context_tokens": Shown(context, or_planned("context_tokens")),
        "images": Shown({**pictures, "visible": sees or overrides.images is not None}, or_planned("images")),
        "image_tokens": Shown(
            {**_words(say, about, "image_tokens"), "visible": bool(bounds), **bounds},
            tokens if tokens is not None and tokens in detail else None,
        ),
        "cost": Shown({"visible": bool(spent)}, spent),
    }


def _memory(say: Translator, about: About) -> dict[str, Shown]:
    overrides, gpus, ram = about.request.overrides, about.hardware.gpus, about.hardware.ram
    limits = dict(overrides.max_memory)
    plan = about.plan if isinstance(about.plan, Plan) else None
    budgets = {share.device: share.budget_bytes for share in plan.devices} if plan else {}

    def slider(device: str, total: int) -> Shown:
        by_whom = say("custom.by_hand" if device in limits else "custom.auto")
        name = _device_name(say, about, device)
        highest = max(1.0, -(-total // (GIB // 4)) / 4)
        size = limits.get(device, budgets.get(device, total))
        words = {"label": f"{name} · {by_whom}", "info": say("custom.limit_info", total=total)}
        return Shown({**words, "maximum": highest, "visible": True}, min(size * 4 // GIB / 4, highest))

    def name(gpu: Gpu) -> str:
        limit = limits.get(f"cuda:{gpu.index}")
        full = _device_name(say, about, f"cuda:{gpu.index}")
        return full if limit is None else say("custom.limited", name=full, limit=limit)

    of = limited_gpu(gpus, about.limited)
    which = {"label": say("custom.limited_gpu"), "info": say("custom.limited_gpu_info")}
    choices = [(name(gpu), gpu.index) for gpu in gpus]
    planned = plan.offload_dir if plan else None
    return {
        "limited_gpu": Shown({**which, "choices": choices, "visible": len(gpus) > 1}, of and of.index),
        "gpu_limit": slider(f"cuda:{of.index}", of.total_bytes) if of else Shown({"visible": False}),
        "ram_limit": slider("cpu", ram.total_bytes),
        "memory_box": Shown({"label": say("custom.memory_box")}),
        "offload_dir": Shown(
            {
                **_words(say, about, "offload_dir"),
                "placeholder": planned or say("custom.automatic"),
                "visible": not about.running.only_llamacpp,
            },
            overrides.offload_dir or "",
        ),
    }


def _map(say: Translator, about: About) -> dict[str, Shown]:
    overrides = about.request.overrides
    placed = overrides.device_map
    if placed is None and isinstance(about.plan, Plan):
        placed = about.plan.device_map
    text = about.draft if about.draft is not None else to_text(placed) if placed else None
    valid = isinstance(about.draft_plan, Plan)
    in_use = overrides.device_map is not None
    return {
        "map_box": Shown({"label": say("custom.device_map"), "visible": not about.running.only_llamacpp}),
        "map_text": Shown(_words(say, about, "device_map"), text),
        "map_check": Shown({}, _checked(say, about)),
        "map_use": Shown(
            {"value": say("custom.map_use"), "interactive": valid or (about.draft is None and not in_use)}
        ),
        "map_auto": Shown(
            {"value": say("custom.map_auto"), "interactive": in_use or about.draft is not None}
        ),
    }


def _checked(say: Translator, about: About) -> str:
    """What the planner says of the map in the editor."""
    found = about.draft_plan
    if found is None:
        return f'<p class="sn-note">{esc(say("custom.map_note"))}</p>'
    if isinstance(found, SnugError):
        return error_card(found, say)
    held = " · ".join(
        f"{_device_name(say, about, share.device)}: "
        f"{say('plan.of', used=human_bytes(share.total_bytes), budget=human_bytes(share.budget_bytes))}"
        for share in found.devices
    )
    mark = badge("verdict-" + found.verdict, say("verdict." + found.verdict))
    return f'<p class="sn-headline" role="status">{mark}<span>{esc(held)}</span></p>'
