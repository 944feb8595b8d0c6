"""Pure: the way on from a load by llama.cpp that failed where transformers can load the same model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backends.errors import (
    Action,
    CpuUnsupported,
    DiskFull,
    FolderReadOnly,
    InternalError,
    ModelDamaged,
    ModelUnsupported,
    PackageMissing,
    SnugError,
)
from backends.placement.types import Plan
from backends.service.converted import ConvertedUsage
from backends.text import Text

# What another engine does not run into.
_OF_LLAMACPP = (
    CpuUnsupported, DiskFull, FolderReadOnly, InternalError, ModelDamaged, ModelUnsupported, PackageMissing
)  # fmt: skip
_TRANSFORMERS = Text(
    "way_out.transformers",
    "transformers runs the same model from its own files: it answers more slowly, and nothing is converted.",
)

# What a process says that it is at (worker.stages).
_CONVERTING = "worker.stage.converting"
_UNFIT = Text("way_out.unfit", "llama.cpp can't run this model.")


@dataclass(frozen=True, slots=True)
class WayOut:
    """A button, and the sentences that stand in place of the error's own: remedy, and where better, title."""

    action: Action
    remedy: Text
    what: Text | None = None


def way_out(error: SnugError, failed: Plan | None, usage: ConvertedUsage) -> WayOut | None:
    """What a person can do at once about `error`, which ended the load of `failed`; None for other loads."""
    if failed is None or failed.conversion is None:
        return None
    if isinstance(error, DiskFull) and usage.removable_bytes > 0:
        remedy = Text.of(
            "way_out.clear",
            "Models that were converted before take {size:bytes}. They can go: each is converted again when "
            "it is next loaded.",
            size=usage.removable_bytes,
        )
        return WayOut(Action.CLEAR_CONVERTED, remedy)
    if isinstance(error, ModelDamaged) and _lies_in(usage.folder, error):
        remedy = Text("way_out.again", "It was made by Snug. Remove it, and it is made again from the model.")
        return WayOut(Action.CLEAR_CONVERTED, remedy)
    if not isinstance(error, _OF_LLAMACPP):
        return None
    return WayOut(
        Action.USE_TRANSFORMERS, _TRANSFORMERS, _UNFIT if isinstance(error, ModelUnsupported) else None
    )


def after_crash(error: SnugError, *, again: bool = False) -> WayOut | None:
    """What is true after a process that ended while it converted: nothing half-made is left.

    `again`: what was converted again has ended like this, too.
    """
    stage = error.values.get("stage")
    if error.action is not Action.RESTART or not isinstance(stage, Text) or stage.code != _CONVERTING:
        return None
    if again:
        return WayOut(Action.USE_TRANSFORMERS, _TRANSFORMERS)
    remedy = Text(
        "way_out.convert",
        "Your conversation and your draft are kept, and so is what was converted to its end. The rest is "
        "converted again.",
    )
    return WayOut(Action.RESTART, remedy)


def _lies_in(folder: Path, error: SnugError) -> bool:
    return Path(str(error.values.get("path", ""))).is_relative_to(folder)
