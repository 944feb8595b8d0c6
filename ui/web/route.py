"""Pure: how a plan comes into memory from where the model is, and the words for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from backends.placement.moving import same_places
from backends.placement.types import Plan, PlanRequest
from backends.service import ModelState
from backends.text import Text
from ui.i18n import Translator

# What the button says.
_LABELS = {
    "load": "setup.load",
    "swap": "setup.swap",
    "same": "setup.loaded",
    "limits": "setup.apply",
    "move": "setup.move",
}


@dataclass(frozen=True, slots=True)
class Route:
    """From nothing (`load`), in place of what is loaded (`swap`), or with it: `same`, `limits` or `move`.

    `why` says why the model that is loaded has to be loaded again, `from_disk` that a move reads weights that
    rest there.
    """

    kind: Literal["load", "swap", "same", "limits", "move"]
    why: Text | None = None
    from_disk: bool = False

    def label(self, say: Translator) -> str:
        """What the button says."""
        return say(_LABELS[self.kind])

    def note(self, say: Translator) -> str:
        """One sentence on what pressing the button does to the model that is loaded; "" for another model."""
        if self.why is not None:
            return say("setup.note_reload", why=self.why)
        if self.kind == "move":
            return say("setup.note_move_disk" if self.from_disk else "setup.note_move")
        return say("setup.note_limits") if self.kind == "limits" else ""


def route(
    state: ModelState,
    request: PlanRequest,
    plan: Plan | None,
    why_reload: Callable[[Plan], Text | None],
    *,
    differently: bool = False,
) -> Route:
    """The way from `state` to `plan` (None: there is none for this machine).

    `differently`: the same plan would be loaded otherwise than it was.
    """
    if state.status != "ready" or state.plan is None:
        return Route("load")
    if state.plan.request == request and not differently:
        return Route("same")
    if plan is None or plan.verdict == "no":
        return Route("swap")
    why = why_reload(plan)
    if why is not None:
        return Route("swap", why if state.plan.model_path == plan.model_path else None)
    if same_places(state.plan, plan):
        return Route("limits")
    places = dict(plan.device_map)
    return Route(
        "move",
        from_disk=any(
            device == "disk" and places.get(name) != "disk" for name, device in state.plan.device_map
        ),
    )
