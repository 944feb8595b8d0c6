"""Pure: the line below the buttons while a checkpoint is made ready for llama.cpp, once."""

from __future__ import annotations

from backends.service import ModelState
from ui.i18n import Translator
from ui.loading import percent, preparing_text
from ui.web.html import Segment, bar, esc


def load_line(state: ModelState, say: Translator) -> str:
    """How far it is and how long it still takes, as HTML; "" while nothing of the kind is done.

    A screen reader is told the share when it asks, and not with each percent.
    """
    progress = state.progress if state.status == "loading" else None
    if progress is None:
        return ""
    said = preparing_text(progress, state.left_s, say, lasted_s=state.lasted_s)
    if not said:
        return ""
    title = say("load.title" if progress.stage == "converting" else "load.comparing")
    now = drawn = ""
    if progress.stage == "converting" or progress.total:
        now = f'aria-valuenow="{percent(progress)}" '
        drawn = bar([Segment("c-used", said, progress.done)], max(1, progress.total), said)
    return (
        f'<div class="sn-converting" role="progressbar" aria-valuemin="0" aria-valuemax="100" {now}'
        f'aria-valuetext="{esc(said)}" aria-label="{esc(title)}">'
        f'<p class="sn-note">{esc(said)}</p>{drawn}</div>'
    )
