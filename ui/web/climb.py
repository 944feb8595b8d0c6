"""What a tab remembers of the ladder: what ran out of memory, what was tried, and what can be undone."""

from __future__ import annotations

from dataclasses import dataclass, field

from backends.errors import OutOfMemory, SnugError
from backends.placement.ladder import Rung, Step, When
from backends.placement.types import Plan, PlanRequest
from backends.service.recovery import Offer


@dataclass(frozen=True, slots=True)
class Failure:
    """Memory that ran out: with which plan, at what, and how long the conversation was (0: not known)."""

    error: OutOfMemory
    plan: Plan
    when: When
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that was taken, and the request from before it."""

    step: Step
    before: PlanRequest


@dataclass(slots=True)
class Climb:
    """One tab's way down the ladder.

    `offer` are the steps after `failure`. `tried` are the requests that ran out since something was last
    answered, with the rung that led to each; `led` the rung of every request that a step asked for. `taken`
    are the steps that can be undone, the last one first to go; `seen` the one whose notice was put away.
    `refused` is what was loaded when a question had more pictures than that keeps memory for. `unfit` are the
    models that transformers were asked to load after llama.cpp had failed to, `converted_again` the requests
    that were loaded again after a process had ended while it converted.
    """

    failure: Failure | None = None
    offer: Offer | None = None
    tried: dict[PlanRequest, Rung | None] = field(default_factory=dict)
    led: dict[PlanRequest, Rung] = field(default_factory=dict)
    taken: list[Taken] = field(default_factory=list)
    seen: Taken | None = None
    refused: tuple[SnugError, PlanRequest] | None = None
    unfit: set[str] = field(default_factory=set)
    converted_again: set[PlanRequest] = field(default_factory=set)
