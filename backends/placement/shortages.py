"""The sentences that say what is missing where nothing fits, and what would run instead."""

from __future__ import annotations

from backends.placement.labels import preset_label
from backends.text import Text, Value, reads_alike

# The sentences that name a device, or the disk, and what it lacks.
SHORT_OF_MEMORY = ("reason.short", "reason.short_barely", "short.converting", "short.converting_barely")


def short(device: Value, needed: int, budget: int) -> Text:
    """A device is over its budget."""
    if reads_alike(needed, budget, "bytes"):
        return Text.of(
            "reason.short_barely",
            "{device} would have to hold {missing:bytes} more than the {budget:bytes} of it that can be "
            "used.",
            device=device,
            missing=needed - budget,
            budget=budget,
        )
    return Text.of(
        "reason.short",
        "{device} would have to hold {needed:bytes} and {budget:bytes} of it can be used: {missing:bytes} "
        "too little.",
        device=device,
        needed=needed,
        budget=budget,
        missing=needed - budget,
    )


def short_loading(needed: int, budget: int) -> Text:
    """RAM is enough to run but not to load."""
    if reads_alike(needed, budget, "bytes"):
        return Text.of(
            "reason.short_loading_barely",
            "Loading would need {missing:bytes} more for a moment than the {budget:bytes} of RAM that can be "
            "used.",
            missing=needed - budget,
            budget=budget,
        )
    return Text.of(
        "reason.short_loading",
        "Loading would need {needed:bytes} of RAM for a moment, and {budget:bytes} of it can be used.",
        needed=needed,
        budget=budget,
    )


def short_commit(needed: int, budget: int, page_file: int) -> Text:
    """Windows would not promise the memory."""
    if reads_alike(needed, budget, "bytes"):
        return Text.of(
            "reason.short_commit_barely",
            "Windows would have to reserve {missing:bytes} more than the {budget:bytes} that it can. Set "
            "the page file to {page_file:bytes} or more.",
            missing=needed - budget,
            budget=budget,
            page_file=page_file,
        )
    return Text.of(
        "reason.short_commit",
        "Windows would have to reserve {needed:bytes} and can reserve {budget:bytes}. Set the page file to "
        "{page_file:bytes} or more.",
        needed=needed,
        budget=budget,
        page_file=page_file,
    )


def with_more_ram(ram: int, page_file: int) -> Text:
    """What it takes where RAM itself is too small, which no page file makes up for."""
    return Text.of(
        "reason.with_more_ram",
        "A page file alone is not enough: it does not stand in for RAM. With {ram:bytes} of RAM and a page "
        "file of {page_file:bytes} this would run.",
        ram=ram,
        page_file=page_file,
    )


def with_more_ram_only(ram: int) -> Text:
    """The same where that RAM needs no page file."""
    return Text.of(
        "reason.with_more_ram_only",
        "A page file alone is not enough: it does not stand in for RAM. With {ram:bytes} of RAM this would "
        "run without one.",
        ram=ram,
    )


def would_run(precision: str, tokens_per_s: float) -> Text:
    """What would run if nothing were set by hand and the preset were Recommended."""
    return Text.of(
        "reason.would_run",
        "Left to Snug, {precision} would run instead, at about {tokens_per_s:rate} tokens/s.",
        precision=precision,
        tokens_per_s=tokens_per_s,
    )


def would_run_on(precision: str, device: Value, used: int, budget: int, tokens_per_s: float) -> Text:
    """The same where it is all on one device."""
    return Text.of(
        "reason.would_run_on",
        "Left to Snug, {precision} would run instead: {device} would hold {used:bytes} of {budget:bytes}, at "
        "about {tokens_per_s:rate} tokens/s.",
        precision=precision,
        device=device,
        used=used,
        budget=budget,
        tokens_per_s=tokens_per_s,
    )


def no_room_anywhere(preset: str) -> Text:
    """Nothing within the preset fits."""
    return Text.of(
        "reason.no_room",
        'Nothing that the preset "{preset}" may use holds this model.',
        preset=preset_label(preset),
    )


def gpu_only(preset: str) -> Text:
    """The preset uses GPUs only, and there is none."""
    return Text.of(
        "reason.gpu_only",
        'The preset "{preset}" uses GPUs only, and there is no usable one.',
        preset=preset_label(preset),
    )


def gpu_preset(preset: str) -> Text:
    """The preset uses GPUs only, and the engine that was asked for uses none."""
    return Text.of("reason.gpu_preset", 'The preset "{preset}" uses GPUs only.', preset=preset_label(preset))
