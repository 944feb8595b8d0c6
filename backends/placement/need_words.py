"""The sentences that answer "what would I need?", for this machine and for a described one alike."""

from __future__ import annotations

from backends.models.types import ModelInfo
from backends.placement.labels import precision_label, preset_label
from backends.placement.types import Plan
from backends.text import Text, reads_alike


def runs(now: Plan) -> Text:
    """Nothing is needed."""
    return Text.of(
        "need.runs",
        "It runs as it is: {precision}, about {tokens_per_s:rate} tokens/s.",
        precision=precision_label(now.precision),
        tokens_per_s=now.expected.tokens_per_s,
    )


def change(now: Plan, found: Plan) -> Text:
    """The smallest change of `now` that runs, in its parts: preset, settings, context."""
    figures: dict[str, str | float] = {
        "precision": precision_label(found.precision),
        "tokens_per_s": found.expected.tokens_per_s,
    }
    asked = found.request.overrides.context_tokens
    shorter = asked is not None and asked != now.request.overrides.context_tokens
    other = found.request.preset is not now.request.preset
    preset = preset_label(found.request.preset.value)
    if other and shorter:
        return Text.of(
            "need.preset_and_context",
            'It runs with the preset "{preset}" and a context of {context:count} tokens: {precision}, about '
            "{tokens_per_s:rate} tokens/s.",
            preset=preset,
            context=found.context_tokens,
            **figures,
        )
    if other:
        return Text.of(
            "need.preset",
            'It runs with the preset "{preset}": {precision}, about {tokens_per_s:rate} tokens/s.',
            preset=preset,
            **figures,
        )
    if shorter:
        return Text.of(
            "need.context",
            "It runs with a context of {context:count} tokens instead of {asked:count}: {precision}, about "
            "{tokens_per_s:rate} tokens/s.",
            context=found.context_tokens,
            asked=now.context_tokens,
            **figures,
        )
    return Text.of(
        "need.no_settings",
        "It runs without what was set by hand: {precision}, about {tokens_per_s:rate} tokens/s.",
        **figures,
    )


def nothing_here() -> Text:
    """No change helps."""
    return Text.of("need.nothing_here", "No preset and no shorter context makes it run.")


def full_here(full: Plan) -> Text:
    """Full precision fits, although something else was asked for."""
    return Text.of(
        "need.full_here",
        "Full precision ({precision}) fits the GPUs, too, at about {tokens_per_s:rate} tokens/s.",
        precision=precision_label(full.precision),
        tokens_per_s=full.expected.tokens_per_s,
    )


def holding(model: ModelInfo) -> Text:
    """What a card must do that needs no compromise: a GGUF file has one precision only."""
    if model.format == "gguf":
        return Text("need.holds_file", "holds the whole file")
    return Text("need.holds_full", "holds it at full precision")


def card(holds: Text, name: str, size: int, tokens_per_s: float) -> Text:
    """The smallest single card; `holds` is what it does."""
    return Text.of(
        "need.card",
        "The smallest card that {holds} is the {card} ({size:bytes}): about {tokens_per_s:rate} tokens/s.",
        holds=holds,
        card=name,
        size=size,
        tokens_per_s=tokens_per_s,
    )


def cards(holds: Text, count: int, name: str, size: int, tokens_per_s: float) -> Text:
    """No single card holds it, several do."""
    return Text.of(
        "need.cards",
        "No single card {holds}; {count} of the {card} ({size:bytes} each) do, at about "
        "{tokens_per_s:rate} tokens/s.",
        holds=holds,
        count=count,
        card=name,
        size=size,
        tokens_per_s=tokens_per_s,
    )


def cards_instead(count: int, name: str, tokens_per_s: float) -> Text:
    """Several gaming cards in place of a data centre's."""
    return Text.of(
        "need.cards_instead",
        "In its place, {count} of the {card} hold it together, at about {tokens_per_s:rate} tokens/s.",
        count=count,
        card=name,
        tokens_per_s=tokens_per_s,
    )


def no_card(holds: Text, most: int) -> Text:
    """Nothing that is known holds it."""
    return Text.of(
        "need.no_card",
        "No card that Snug knows {holds}, and neither do {most} gaming cards together.",
        holds=holds,
        most=most,
    )


def ram(needed: int, have: int) -> Text:
    """More RAM is needed beside the card."""
    if reads_alike(needed, have, "bytes"):
        return Text.of(
            "need.ram_barely",
            "Beside that, the machine needs {missing:bytes} more than its {have:bytes} of RAM.",
            missing=needed - have,
            have=have,
        )
    return Text.of(
        "need.ram",
        "Beside that, the machine needs {needed:bytes} of RAM; it has {have:bytes}.",
        needed=needed,
        have=have,
    )


def ram_is_enough(used: int) -> Text:
    """RAM is enough beside the card."""
    return Text.of(
        "need.ram_is_enough",
        "Beside that, the RAM is enough: {used:bytes} of it are used.",
        used=used,
    )


def page_file(size: int) -> Text:
    """Windows must be able to reserve what the card holds, too."""
    return Text.of(
        "need.page_file",
        "Windows reserves memory for what lies on the card, too: set the page file to {size:bytes} or more.",
        size=size,
    )
