"""Pure: which card stands above the message box, and which button it offers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from backends.errors import Action, GpuUnsupported, KernelsMissing, NotLoaded, OutOfMemory, SnugError
from backends.hardware.types import Gpu
from backends.placement.ladder import Step
from backends.placement.types import Overrides, PlanRequest
from backends.presets import Preset
from backends.service.recovery import Offer
from backends.text import Text
from ui.i18n import Translator
from ui.web import by_hand
from ui.web.chat_flow import Conversation, unanswered
from ui.web.climb import Taken
from ui.web.format import error_card, notice
from ui.web.html import esc
from ui.web.way_out import WayOut, after_crash

# What "use less memory" means from each preset.
_LOWER = {
    Preset.AUTO: Preset.LOW,
    Preset.HIGH: Preset.MID,
    Preset.MID: Preset.LOW,
    Preset.LOW: Preset.CPU,
    Preset.CUSTOM: Preset.AUTO,
}


@dataclass(frozen=True, slots=True)
class Notice:
    """A card: an error, or a title and a sentence by `key`; its button's action and label.

    `offer` is the way on from an error of memory, `taken` the step that was taken; `way` is another way
    than the error's own remedy.
    """

    error: SnugError | None = None
    key: str = ""
    action: Action | None = None
    label: str | Text = ""
    offer: Offer | None = None
    taken: Taken | None = None
    way: WayOut | None = None

    def button(self, say: Translator) -> str:
        """The button's words; "" without one."""
        if isinstance(self.label, Text):
            return say.text(self.label)
        return say(self.label) if self.label else ""

    def html(self, say: Translator) -> str:
        """The card in the tab's language."""
        if self.offer is not None:
            return _offered(self.offer, say)
        if self.taken is not None:
            return _done(self.taken, say)
        if self.error is not None and self.way is not None:
            what, why = self.way.what or self.error.what_text, self.error.why_text
            return notice(say.text(what), say.text(why), say.text(self.way.remedy))
        if self.error is not None:
            return error_card(self.error, say)
        return notice(say(f"{self.key}.title"), say(f"{self.key}.text"))


def choose(
    turns: Conversation,
    status: str,
    of_tab: SnugError | None,
    of_model: SnugError | None,
    *,
    offer_for: Callable[[SnugError], Offer | None] = lambda _error: None,
    taken: Taken | None = None,
    way_out_of: Callable[[SnugError], WayOut | None] = lambda _error: None,
    converted_again: bool = False,
) -> Notice | None:
    """The one card that helps most now.

    The model's trouble, then the tab's, then a step that can be undone, then an unanswered question.
    `converted_again`: after a crash while it converted, the model was loaded again already.
    """
    # Started as it was, it would end of these again.
    again = not isinstance(of_model, OutOfMemory | KernelsMissing)
    if status == "crashed" and of_model is not None and again:
        return _crashed(of_model, Action.RESTART, after_crash(of_model, again=converted_again))
    for error in (of_tab, of_model):
        # Another tab may have started the model again meanwhile: then there is nothing left to start.
        over = error is not None and error.action is Action.RESTART and status in ("ready", "loading")
        if error is not None and not over:
            crash = after_crash(error, again=converted_again)
            return _of_error(error, offer_for(error), way_out_of(error), crash)
    if taken is not None:
        return Notice(action=Action.UNDO_STEP, label="action.undo_step", taken=taken)
    if status == "ready" and unanswered(turns):
        return Notice(key="notice.unanswered", action=Action.RETRY, label="action.ask_again")
    return None


def without_gpus(request: PlanRequest, error: GpuUnsupported, present: Sequence[Gpu]) -> PlanRequest:
    """The request without the GPUs of `error`, and without what was set for certain GPUs by hand."""
    named = str(error.values["gpus"])
    gone = {int(number) for number in named.split(",") if number}
    allowed = request.overrides.gpus
    left = tuple(
        gpu.index for gpu in present if gpu.index not in gone and (allowed is None or gpu.index in allowed)
    )
    limits = tuple(limit for limit in request.overrides.max_memory if not limit[0].startswith("cuda:"))
    overrides = replace(request.overrides, device_map=None, max_memory=limits, gpu_layers=None)
    if not left or not gone:
        kept = by_hand.for_preset(replace(overrides, gpus=None, cpu_layers_mode=None), Preset.CPU)
        return replace(request, preset=Preset.CPU, overrides=kept.overrides)
    overrides = replace(overrides, gpus=left)
    return replace(request, preset=by_hand.preset_for(overrides, request.preset), overrides=overrides)


def in_sixteen_bits(overrides: Overrides) -> Overrides:
    """What bitsandbytes has no part in; layers that were counted for narrower weights are placed anew."""
    return replace(overrides, precision="bf16", gpu_layers=None, device_map=None)


def _of_error(error: SnugError, offer: Offer | None, way: WayOut | None, crash: WayOut | None) -> Notice:
    if offer is not None:
        return _way_on(error, offer)
    if way is not None:
        return Notice(error, action=way.action, label=f"action.{way.action}", way=way)
    return _crashed(error, error.action, crash)


def _crashed(error: SnugError, action: Action | None, way: WayOut | None) -> Notice:
    """With the way on from a crash while it converted, or the error's own `action`."""
    if way is None:
        return Notice(error, action=action, label=_label(error))
    label = "action.convert_again" if way.action is Action.RESTART else f"action.{way.action}"
    return Notice(error, action=way.action, label=label, way=way)


def _label(error: SnugError) -> str:
    if error.action is None:
        return ""
    return "action.load" if isinstance(error, NotLoaded) else f"action.{error.action}"


def _way_on(error: SnugError, offer: Offer) -> Notice:
    if offer.step is None:
        return Notice(error, offer=offer)
    return Notice(error, action=Action.STEP_DOWN, label=offer.step.name, offer=offer)


def _offered(offer: Offer, say: Translator) -> str:
    """What ran out, then the next step with what it costs, or that there is none."""
    what, why = say.text(offer.error.what_text), say.text(offer.error.why_text)
    if offer.step is None:
        return notice(what, why, say.text(offer.nothing) if offer.nothing is not None else "")
    step = f"{say('notice.next_step', step=offer.step.name)} {_costs(offer.step, say)}"
    return notice(what, why, step) + _others(offer.steps[1:], say)


def _others(steps: Sequence[Step], say: Translator) -> str:
    """The steps after the next one, to be taken instead of it; each says what it costs."""
    if not steps:
        return ""
    lines = "".join(
        f'<li><button type="button" class="sn-chip" data-step="{esc(step.rung)}">{esc(say.text(step.name))}'
        f"</button><p>{esc(_costs(step, say))}</p></li>"
        for step in steps
    )
    return (
        f'<details class="sn-more"><summary>{esc(say("notice.other_steps", count=len(steps)))}</summary>'
        f'<ul class="sn-steps">{lines}</ul></details>'
    )


def _costs(step: Step, say: Translator) -> str:
    return " ".join(say.text(cost) for cost in step.costs)


def _done(taken: Taken, say: Translator) -> str:
    """What was done, and that it can be undone: no alarm."""
    title, costs = say("notice.step_taken.title", step=taken.step.name), _costs(taken.step, say)
    return (
        f'<div class="sn-notice" role="status"><strong>{esc(title)}</strong><p>{esc(costs)}</p>'
        f"<p>{esc(say('notice.step_taken.text'))}</p></div>"
    )


def lower_preset(preset: Preset) -> Preset:
    """The next preset that needs less GPU memory; the CPU preset stays."""
    return _LOWER.get(preset, preset)
