"""The sentences about the machine itself: who else uses its GPUs, and what of it was not measured."""

from __future__ import annotations

from collections.abc import Sequence

from backends.placement.labels import figures_label
from backends.text import Text


def gpu_busy(index: int, name: str, held: int, process: str, pid: int) -> Text:
    """Another program holds a GPU, and the driver says which."""
    return Text.of(
        "reason.gpu_busy",
        "GPU {index} ({name}) is busy: {process} (process {pid}) holds {held:bytes} of it.",
        index=index,
        name=name,
        held=held,
        process=process,
        pid=pid,
    )


def gpu_busy_together(index: int, name: str, held: int, process: str, pid: int) -> Text:
    """Other programs use a GPU; the driver names them, but not what each of them holds (Windows)."""
    return Text.of(
        "reason.gpu_busy_together",
        "GPU {index} ({name}) is busy: {held:bytes} of it are in use, by {process} (process {pid}) among "
        "others.",
        index=index,
        name=name,
        held=held,
        process=process,
        pid=pid,
    )


def gpu_busy_unknown(index: int, name: str, held: int) -> Text:
    """Somebody holds a GPU, and the driver does not say who."""
    return Text.of(
        "reason.gpu_busy_unknown",
        "GPU {index} ({name}) is busy: other programs hold {held:bytes} of it or keep it computing; the "
        "driver does not say which.",
        index=index,
        name=name,
        held=held,
    )


def busy_last() -> Text:
    """What follows from a GPU being busy where there are others."""
    return Text.of("reason.busy_last", "Busy GPUs come last.")


def assumed(figures: Sequence[str]) -> Text:
    """Speeds rest on assumed figures."""
    return Text.of(
        "reason.assumed",
        "Assumed, not measured: {figures}.",
        figures=figures_label(figures),
    )
