"""Memory ran out, or would: finds the next step for a tab, takes it, and takes it back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from backends.errors import ModelReplaced, OutOfMemory, PicturesExceeded, SnugError
from backends.placement.ladder import Rung, When
from backends.placement.types import Plan, PlanRequest
from backends.presets import QUESTION_TOKENS
from backends.service import ModelState
from backends.service.recovery import Offer
from ui.web.chat_flow import Conversation
from ui.web.climb import Failure, Taken
from ui.web.context import Context
from ui.web.planning import make_plan
from ui.web.sessions import Session


def failed(context: Context, session: Session, error: OutOfMemory) -> None:
    """Note what an answer failed with, while it is still known which plan that was."""
    state = context.service.state()
    if state.status == "loading":
        return  # the next plan is on its way already, and `state` speaks of that one
    found = _failure(state, session.turns, error)
    if found is not None:
        _remember(context, session, found)


def answered(session: Session) -> None:
    """Something was answered: what ran out before says no more about the plan that is loaded."""
    session.climb.tried.clear()


def offer_for(context: Context, session: Session, error: SnugError | None) -> Offer | None:
    """The next step after `error`, worked out once; None where it is no question of memory."""
    if not isinstance(error, OutOfMemory):
        return None
    known = session.climb.failure
    if known is None or known.error is not error:
        # A load that this tab did not wait for: the model's state knows what it was.
        state = context.service.state()
        found = _failure(state, (), error) if state.error is error else None
        if found is None:
            return None
        _remember(context, session, found)
    return session.climb.offer


def take(context: Context, session: Session, rung: str | None = None) -> PlanRequest | None:
    """Load what the offered step of `rung`, or the next one, asks for.

    Returns its request; None when there is no such step.
    """
    climb = session.climb
    steps = climb.offer.steps if climb.offer is not None else ()
    step = next((step for step in steps if rung in (None, step.rung)), None)
    if climb.offer is None or step is None:
        return None
    before = climb.offer.failed.request
    if not _load(context, session, step.request):
        return None
    climb.led[step.request] = step.rung
    climb.taken.append(Taken(step, before))
    climb.offer = climb.failure = None
    return step.request


def undo(context: Context, session: Session) -> PlanRequest | None:
    """Load what was there before the last step; returns its request, None when nothing was taken."""
    climb = session.climb
    if not climb.taken or not _load(context, session, climb.taken[-1].before):
        return None
    return climb.taken.pop().before


def refused(context: Context, session: Session, error: SnugError) -> None:
    """Note which model has no memory for a question's pictures, while that is still known."""
    state = context.service.state()
    if isinstance(error, PicturesExceeded) and state.status == "ready" and state.plan is not None:
        session.climb.refused = error, state.plan.request


def make_room(context: Context, session: Session, error: SnugError | None) -> PlanRequest | None:
    """Load the model that refused the pictures of `error` again, with memory for them.

    Returns the request that does so; None where another model has taken its place, which is said instead.
    """
    if not isinstance(error, PicturesExceeded):
        return None
    known, plan = session.climb.refused, context.service.state().plan
    asked = known[1] if known is not None and known[0] is error else session.request or context.start
    if plan is not None and plan.request.model != asked.model:
        labels = {entry.key: entry.label for entry in context.service.models()}
        names = [labels.get(key, Path(key).name or key) for key in (asked.model, plan.request.model)]
        session.error = ModelReplaced(model=names[0], loaded=names[1])
        return None
    before = plan.request if plan is not None else asked
    request = replace(before, overrides=replace(before.overrides, images=int(str(error.values["pictures"]))))
    return request if _load(context, session, request) else None


def latest(session: Session, state: ModelState) -> Taken | None:
    """The step that is loaded or being loaded, unless its notice was put away."""
    taken = session.climb.taken[-1] if session.climb.taken else None
    if taken is None or taken is session.climb.seen or state.status not in ("loading", "ready"):
        return None
    return taken if state.plan is not None and state.plan.request == taken.step.request else None


def _load(context: Context, session: Session, request: PlanRequest) -> bool:
    plan = make_plan(context, request)
    if isinstance(plan, SnugError):
        session.error = plan
        return False
    session.elsewhere = None
    context.loader.load(plan)
    if context.loader.error is not None:
        session.error = context.loader.error
        return False
    return True


def _remember(context: Context, session: Session, found: Failure) -> None:
    climb = session.climb
    climb.failure, climb.offer = found, None
    climb.tried[found.plan.request] = climb.led.get(found.plan.request)
    # llama.cpp would fail as it did, and lead back to transformers.
    without = (Rung.LLAMACPP,) if found.plan.request.model in climb.unfit else ()
    try:
        climb.offer = context.service.next_step(
            found.error,
            found.plan,
            found.when,
            prompt_tokens=found.prompt_tokens,
            tried=dict(climb.tried),
            without=without,
        )
    except SnugError:
        # The model's folder went away meanwhile: the error speaks for itself.
        climb.failure = None


def _failure(state: ModelState, turns: Conversation, error: OutOfMemory) -> Failure | None:
    if state.failed is not None and state.error is error:
        return Failure(error, state.failed, "load")
    if state.plan is None:
        return None
    pictures = bool(turns) and bool(turns[-1].question.images)
    when: When = "image" if pictures else "chat"
    return Failure(error, state.plan, when, _prompt_tokens(turns, state.plan))


def _prompt_tokens(turns: Conversation, plan: Plan) -> int:
    """About how long the failed prompt was: what was answered last, then the question; 0 at the first."""
    done = next(
        (turn.done for turn in reversed(turns) if turn.done is not None and turn.done.token_ids), None
    )
    if done is None:
        return 0
    asked = len(turns[-1].question.images) * plan.image_tokens + QUESTION_TOKENS
    return done.usage.prompt_tokens + done.usage.completion_tokens + asked
