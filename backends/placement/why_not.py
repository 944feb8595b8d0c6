"""The sentences that say why an alternative was not chosen."""

from __future__ import annotations

from backends.text import Text, Value, reads_alike


def why_slower(tokens_per_s: float, chosen: float) -> Text:
    """An alternative is slower."""
    if reads_alike(tokens_per_s, chosen, "rate"):
        return why_no_gain(tokens_per_s)
    return Text.of(
        "why.slower",
        "It would answer at about {tokens_per_s:rate} tokens/s instead of {chosen:rate}.",
        tokens_per_s=tokens_per_s,
        chosen=chosen,
    )


def not_in_preset(tokens_per_s: float) -> Text:
    """An alternative would run, but the preset does not allow it."""
    return Text.of(
        "why.not_in_preset",
        "It would run at about {tokens_per_s:rate} tokens/s, but the preset or your settings don't allow it.",
        tokens_per_s=tokens_per_s,
    )


def not_in_preset_on(device: Value, used: int, budget: int, tokens_per_s: float) -> Text:
    """The same where all of it is on one device."""
    return Text.of(
        "why.not_in_preset_on",
        "It would fit: {device} would hold {used:bytes} of {budget:bytes}, at about {tokens_per_s:rate} "
        "tokens/s. But the preset or your settings don't allow it.",
        device=device,
        used=used,
        budget=budget,
        tokens_per_s=tokens_per_s,
    )


def why_lower_quality(precision: str) -> Text:
    """An alternative loses quality without need."""
    return Text.of("why.lower_quality", "{precision} loses quality without need here.", precision=precision)


def why_below_reading(tokens_per_s: float, reading: float) -> Text:
    """An alternative of higher quality is too slow."""
    if reads_alike(tokens_per_s, reading, "rate"):
        return Text.of(
            "why.barely_below_reading",
            "It would be just below reading speed ({reading:.0f} tokens/s).",
            reading=reading,
        )
    return Text.of(
        "why.below_reading",
        "At about {tokens_per_s:rate} tokens/s it would be slower than reading speed ({reading:.0f}).",
        tokens_per_s=tokens_per_s,
        reading=reading,
    )


def why_later(tokens_per_s: float, first: float, chosen: float) -> Text:
    """An alternative lets one wait longer for the first word."""
    if reads_alike(first, chosen, "seconds"):
        return why_no_gain(tokens_per_s)
    return Text.of(
        "why.later",
        "It would answer at about {tokens_per_s:rate} tokens/s, but begin after {first:seconds} instead of "
        "{chosen:seconds}.",
        tokens_per_s=tokens_per_s,
        first=first,
        chosen=chosen,
    )


def why_resort(answer: float, chosen: float) -> Text:
    """An alternative that the preset was not meant for would answer sooner."""
    if reads_alike(answer, chosen, "seconds"):
        return Text.of(
            "why.resort_same",
            "An answer would take as long ({answer:seconds}), and this preset's own way comes first.",
            answer=answer,
        )
    return Text.of(
        "why.resort",
        "An answer would take {answer:seconds} instead of {chosen:seconds}, but this preset's own way comes "
        "first.",
        answer=answer,
        chosen=chosen,
    )


def why_no_gain(tokens_per_s: float) -> Text:
    """An alternative of the same quality is no better."""
    return Text.of(
        "why.no_gain",
        "It brings nothing more here (about {tokens_per_s:rate} tokens/s).",
        tokens_per_s=tokens_per_s,
    )
