"""How far a load is, in words, for the page and for the command line."""

from __future__ import annotations

from backends.messages import IN_BYTES, Progress
from backends.text import human_bytes
from ui.i18n import Translator

_WORTH_TELLING_S = 3.0


def progress_text(progress: Progress | None, say: Translator) -> str:
    """`reading 1.2 GB of 13.5 GB`, or the stage alone."""
    if progress is None:
        return say("stage.start")
    stage = say(f"stage.{progress.stage}")
    if not progress.total:
        return stage
    if progress.stage not in IN_BYTES:
        return f"{stage} {progress.done} / {progress.total}"
    return f"{stage} {say('plan.of', used=human_bytes(progress.done), budget=human_bytes(progress.total))}"


def percent(progress: Progress) -> int:
    """The share that is done, rounded down: 100 is the end."""
    return 100 * progress.done // progress.total if progress.total else 0


def preparing_text(
    progress: Progress, left_s: float | None, say: Translator, *, lasted_s: float | None = None
) -> str:
    """`Converting once for llama.cpp, 34 % - about 12 s left`; "" for stages of every load.

    A stage whose end can't be told says after some seconds how many it has taken.
    """
    if progress.stage == "comparing":
        steps = f" ({progress.done} / {progress.total})" if progress.total > 1 else ""
        said = say("load.comparing") + steps
    elif progress.stage == "converting":
        said = say("load.converting", percent=percent(progress))
    else:
        return ""
    if left_s is not None:
        return say("load.with_time", said=said, seconds=left_s)
    if lasted_s is not None and lasted_s >= _WORTH_TELLING_S:
        return say("load.so_far", said=said, seconds=lasted_s)
    return said
