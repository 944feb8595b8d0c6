"""Pure: which card stands above the message box, and which button it offers."""

from __future__ import annotations

from dataclasses import dataclass

from backends.errors import Action, NotLoaded, SnugError
from backends.presets import Preset
from ui.i18n import Translator
from ui.web.chat_flow import Conversation, unanswered
from ui.web.format import error_card, notice

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
    """A card: an error, or a title and a sentence by `key`; its button's action and label."""

    error: SnugError | None = None
    key: str = ""
    action: Action | None = None
    label: str = ""

    def html(self, say: Translator) -> str:
        """The card in the tab's language."""
        if self.error is not None:
            return error_card(self.error, say)
        return notice(say(f"{self.key}.title"), say(f"{self.key}.text"))


def choose(
    turns: Conversation, status: str, of_tab: SnugError | None, of_model: SnugError | None
) -> Notice | None:
    """The one card that helps most now: the model's trouble, then the tab's, then an unanswered question."""
    if status == "crashed" and of_model is not None:
        return Notice(of_model, action=Action.RESTART, label="action.restart")
    for error in (of_tab, of_model):
        # Another tab may have started the model again meanwhile: then there is nothing left to start.
        over = error is not None and error.action is Action.RESTART and status in ("ready", "loading")
        if error is not None and not over:
            return Notice(error, action=error.action, label=_label(error))
    if status == "ready" and unanswered(turns):
        return Notice(key="notice.unanswered", action=Action.RETRY, label="action.ask_again")
    return None


def _label(error: SnugError) -> str:
    if error.action is None:
        return ""
    return "action.load" if isinstance(error, NotLoaded) else f"action.{error.action}"


def lower_preset(preset: Preset) -> Preset:
    """The next preset that needs less GPU memory; the CPU preset stays."""
    return _LOWER.get(preset, preset)
