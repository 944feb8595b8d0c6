"""What else was considered, and why it was not taken; and what an outcome that does not fit is missing."""

from __future__ import annotations

from collections.abc import Sequence

from backends.placement import converted_words, shortages, why_not
from backends.placement.candidates import Candidate
from backends.placement.case import CPU
from backends.placement.evaluate import Outcome
from backends.placement.labels import device_label, precision_label
from backends.placement.precision import quality
from backends.placement.types import Alternative, DeviceShare, Expected
from backends.presets import LONGEST_WAIT_S, READING_TOKENS_PER_S
from backends.text import Text, reads_alike

_MOST_ALTERNATIVES = 6


def alternatives(chosen: Candidate, others: Sequence[Candidate]) -> tuple[Alternative, ...]:
    """The other candidates, those that run first; one for each precision and kind of placement."""
    best: dict[tuple[str, str, str, str], Candidate] = {}
    for other in others:
        key = (other.engine, other.outcome.layout.precision.name, other.kind, other.outcome.verdict)
        held = best.get(key)
        if held is None or other.outcome.expected.answer_s < held.outcome.expected.answer_s:
            best[key] = other
    ordered = sorted(
        best.values(),
        key=lambda other: (
            not other.outcome.fits,
            quality(other.outcome.layout.precision.name),
            other.outcome.expected.answer_s,
        ),
    )
    # What reads the same is one answer, whichever of its layouts it came from: the plan's own, too.
    listed = dict.fromkeys(
        Alternative(
            engine=other.engine,
            precision=other.outcome.layout.precision.name,
            verdict=other.outcome.verdict,
            tokens_per_s=other.outcome.expected.tokens_per_s,
            why_not=_why_not(chosen, other.outcome),
        )
        for other in ordered
        if not _reads_like(chosen, other)
    )
    return tuple(listed)[:_MOST_ALTERNATIVES]


def _reads_like(chosen: Candidate, other: Candidate) -> bool:
    """Whether one would take `other` for the plan itself: layers in RAM run elsewhere, to no other end."""
    mine, its = chosen.outcome, other.outcome
    if (mine.layout.precision, chosen.kind, mine.verdict) != (its.layout.precision, other.kind, its.verdict):
        return False
    if chosen.engine != other.engine:
        return False
    if not mine.fits:
        return missing(mine) == missing(its)
    return all(
        reads_alike(one, another, spec)
        for one, another, spec in (
            (mine.expected.tokens_per_s, its.expected.tokens_per_s, "rate"),
            (mine.expected.first_token_s, its.expected.first_token_s, "seconds"),
        )
    )


def missing(outcome: Outcome) -> list[Text]:
    """What is missing where; never empty for an outcome that does not fit."""
    found = [
        shortages.short(device_label(share.device, share.name), share.total_bytes, share.budget_bytes)
        for share in outcome.devices
        if share.total_bytes > share.budget_bytes
    ]
    if outcome.written_bytes > outcome.disk_budget:
        found.append(converted_words.short_disk(outcome.written_bytes, outcome.disk_budget))
    ram = share_of(outcome, CPU)
    if outcome.load_peak_ram > max(ram.budget_bytes, ram.total_bytes):
        found.append(shortages.short_loading(outcome.load_peak_ram, ram.budget_bytes))
    if any(share.total_bytes > share.budget_bytes for share in outcome.devices if share is not ram):
        return found  # what Windows promises is no help to a card or a disk that is too small
    if outcome.commit_budget is not None and outcome.commit_needed > outcome.commit_budget:
        found.append(
            shortages.short_commit(outcome.commit_needed, outcome.commit_budget, outcome.page_file_bytes)
        )
    if outcome.with_more_ram is not None:
        size, pages = outcome.with_more_ram
        found.append(shortages.with_more_ram(size, pages) if pages else shortages.with_more_ram_only(size))
    return found


def alone_on(outcome: Outcome) -> DeviceShare | None:
    """The device that holds the whole model, if one does."""
    used = set(outcome.layout.devices)
    return share_of(outcome, used.pop()) if len(used) == 1 else None


def share_of(outcome: Outcome, device: str) -> DeviceShare:
    """What `device` holds."""
    return next(share for share in outcome.devices if share.device == device)


def _why_not(chosen: Candidate, other: Outcome) -> Text:
    speed = other.expected.tokens_per_s
    if not other.fits:
        return missing(other)[0]
    if not chosen.outcome.fits:
        alone = alone_on(other)
        if alone is None:
            return why_not.not_in_preset(speed)
        device = device_label(alone.device, alone.name)
        return why_not.not_in_preset_on(device, alone.total_bytes, alone.budget_bytes, speed)
    worse = quality(other.layout.precision.name) > quality(chosen.outcome.layout.precision.name)
    if worse:
        return why_not.why_lower_quality(precision_label(other.layout.precision.name))
    return _why_slower(chosen.outcome.expected, other.expected)


def _why_slower(mine: Expected, other: Expected) -> Text:
    speed, best = other.tokens_per_s, mine.tokens_per_s
    if speed < READING_TOKENS_PER_S <= best:
        return why_not.why_below_reading(speed, READING_TOKENS_PER_S)
    as_fast = speed >= best or reads_alike(speed, best, "rate")
    longer = as_fast and other.answer_s > mine.answer_s
    if longer or other.first_token_s > LONGEST_WAIT_S >= mine.first_token_s:
        return why_not.why_later(speed, other.first_token_s, mine.first_token_s)
    if other.answer_s < mine.answer_s:
        return why_not.why_resort(other.answer_s, mine.answer_s)
    return why_not.why_slower(speed, best) if speed < best else why_not.why_no_gain(speed)
