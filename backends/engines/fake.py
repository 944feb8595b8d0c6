"""A deterministic engine without a model, for tests of everything above the engines.

Words in the last question command it: `slow` (20 words a second), `long` (2,000 words), `crash` (the
process ends at once), `hang` (deaf to cancel), `oom` (raises `OutOfGpuMemory`); in a draft `slow-prime`
(prepares for a minute unless stopped) and `crash-prime`. Words in the model's path command the load:
`slow-load`, `crash-load`, `hang-load`, `damaged-load`; and what follows it: `slow-rehearsal` (a minute unless
stopped), `failing-rehearsal`; and a move: `slow-move`, `crash-move`, `hang-move`, `failing-move` (no room),
`losing-move` (the way back fails as well). Of conversions see `fake_conversion`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag

from backends.engines import fake_conversion, fake_memory
from backends.engines.base import ChatRequest, ProgressSink
from backends.engines.stages import ANSWERING, MOVING
from backends.errors import (
    Cancelled,
    CannotMove,
    ContextExceeded,
    ModelDamaged,
    NotLoaded,
    OutOfGpuMemory,
    OutOfRam,
)
from backends.messages import Done, Event, FinishReason, Message, Progress, Role, TextDelta, Timings, Usage
from backends.placement.moving import why_reload
from backends.placement.pictures import check_number
from backends.placement.types import Plan
from backends.reports import DevicePeak, LoadReport

CRASH_EXIT_CODE = 70
_IMAGE_TOKENS = 64
_SLOW_S = 0.05
_SLOW_PRIME_S = 60.0
_SLOW_REHEARSAL_S = 60.0
_LOAD_STEPS = 20
_LONG_WORDS = 2000


class FakeEngine:
    """Echoes the question and the number of pictures, word by word."""

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._cached: dict[str, tuple[str, ...]] = {}

    def load(self, plan: Plan, progress: ProgressSink, cancel: Flag) -> LoadReport:
        """Count the bytes of the plan's weights in twenty steps."""
        begun = time.perf_counter()
        name = Path(plan.model_path).name
        total = max(sum(share.weights_bytes for share in plan.devices), _LOAD_STEPS)
        progress(Progress("start", 0, 0))
        fake_conversion.convert(plan, progress, cancel)
        for step in range(_LOAD_STEPS + 1):
            if "slow-load" in name:
                cancel.wait(_SLOW_S)
            if cancel.is_set():
                raise Cancelled
            progress(Progress("read", total * step // _LOAD_STEPS, total))
            if step == _LOAD_STEPS // 2:
                _fail_load(name, plan)
        self._plan = plan
        return _report(plan, time.perf_counter() - begun)

    def move(self, plan: Plan, progress: ProgressSink, cancel: Flag) -> LoadReport:
        """Take over the plan's devices, in twenty steps; what conversations have cached stays."""
        begun = time.perf_counter()
        if self._plan is None:
            raise NotLoaded
        if (obstacle := why_reload(self._plan, plan)) is not None:
            raise CannotMove(detail=obstacle)
        name, total = Path(plan.model_path).name, _bytes_to_move(self._plan, plan)
        for step in range(_LOAD_STEPS + 1):
            if "slow-move" in name:
                cancel.wait(_SLOW_S)
            if cancel.is_set():
                raise Cancelled
            progress(Progress("move", total * step // _LOAD_STEPS, total))
            if step == _LOAD_STEPS // 2:
                self._fail_move(name, total)
        self._plan = replace(plan, visible_gpus=self._plan.visible_gpus)  # what this process sees
        return replace(_report(plan, time.perf_counter() - begun), moved=True)

    @property
    def loaded(self) -> bool:
        """Whether a plan was carried out."""
        return self._plan is not None

    def _fail_move(self, name: str, total: int) -> None:
        if "crash-move" in name:
            os._exit(CRASH_EXIT_CODE)
        if "hang-move" in name:
            _hang()
        if "losing-move" in name:
            self.close()
        if "failing-move" in name or "losing-move" in name:
            raise OutOfRam(stage=MOVING, needed_bytes=total, free_bytes=0)

    def rehearse(self, cancel: Flag) -> None:
        """Nothing gets faster by it."""
        if self._plan is None:
            raise NotLoaded
        name = Path(self._plan.model_path).name
        if "slow-rehearsal" in name:
            cancel.wait(_SLOW_REHEARSAL_S)
        if "failing-rehearsal" in name:
            raise RuntimeError("the rehearsal went wrong")

    def chat(self, request: ChatRequest, cancel: Flag) -> Iterator[Event]:
        """Stream the echo; `token_ids` are the positions of its words."""
        begun = time.perf_counter()
        if self._plan is None:
            raise NotLoaded
        question = _last_question(request.messages)
        _obey(question, self._plan)
        check_number(self._plan, request.messages)
        keys = _keys(request.messages)
        if len(keys) >= self._plan.context_tokens:
            raise ContextExceeded(needed_tokens=len(keys) + 1, context_tokens=self._plan.context_tokens)
        reused = _common(keys, self._cached.get(request.conversation, ()))
        pictures = sum(len(message.images) for message in request.messages)
        yield Progress("prefill", reused, len(keys))

        words = _answer(question, pictures)
        pace = _SLOW_S if "slow" in question.split() else 0.0
        finish: FinishReason = "stop"
        first_token = 0.0
        said: list[str] = []
        for word in words:
            if pace:
                cancel.wait(pace)
            if cancel.is_set() and "hang" not in question.split():
                finish = "cancelled"
                break
            if len(said) == request.sampling.max_tokens:
                finish = "length"
                break
            first_token = first_token or time.perf_counter() - begun
            said.append(word)
            yield TextDelta(word if len(said) == 1 else " " + word)
        self._cached[request.conversation] = (*keys, *said)
        total = time.perf_counter() - begun
        yield Done(
            finish,
            Usage(len(keys), pictures * _IMAGE_TOKENS, len(said), reused),
            Timings(first_token, len(said) / max(total - first_token, 1e-6), total),
            tuple(range(len(said))),
        )

    def prime(self, conversation: str, messages: Sequence[Message], cancel: Flag) -> None:
        """Remember everything up to the draft's text."""
        if self._plan is None:
            raise NotLoaded
        draft = messages[-1]
        words = draft.text.split()
        if "crash-prime" in words:
            os._exit(CRASH_EXIT_CODE)
        if "slow-prime" in words:
            cancel.wait(_SLOW_PRIME_S)
        if not cancel.is_set():
            fixed = (*messages[:-1], Message(draft.role, draft.images))
            self._cached[conversation] = _keys(fixed)

    def memory(self) -> tuple[DevicePeak, ...]:
        """Nothing is held, so nothing is learnt."""
        return ()

    def close(self) -> None:
        """Forget everything."""
        self._plan = None
        self._cached.clear()


def _report(plan: Plan, seconds: float) -> LoadReport:
    return LoadReport(
        engine="fake",
        precision=plan.precision,
        device_map=plan.device_map,
        dtype=plan.precision,
        quantized=0,
        offload_dir=plan.offload_dir,
        seconds=seconds,
        peaks=tuple((share.device, share.total_bytes) for share in plan.devices),
        supports_images=True,
        context_tokens=plan.context_tokens,
    )


def _bytes_to_move(old: Plan, new: Plan) -> int:
    """What the devices hold more than before."""
    before = {share.device: share.weights_bytes for share in old.devices}
    return sum(max(0, share.weights_bytes - before.get(share.device, 0)) for share in new.devices)


def _fail_load(name: str, plan: Plan) -> None:
    if "crash-load" in name:
        os._exit(CRASH_EXIT_CODE)
    if "hang-load" in name:
        _hang()
    if "damaged-load" in name:
        raise ModelDamaged(path=plan.model_path, file="model.safetensors", detail="It ends too early.")
    fake_memory.while_loading(name, plan)


def _obey(question: str, plan: Plan) -> None:
    words = question.split()
    if "crash" in words:
        os._exit(CRASH_EXIT_CODE)
    if "hang" in words:
        _hang()
    if "oom" in words:
        device = plan.devices[0].device if plan.devices else "cuda:0"
        raise OutOfGpuMemory(device=device, stage=ANSWERING, needed_bytes=1 << 30, free_bytes=1 << 20)
    fake_memory.while_answering(question, plan)


def _hang() -> None:
    """Wait for nothing, as a driver call that never returns does."""
    Flag().wait()


def _last_question(messages: Sequence[Message]) -> str:
    return next((message.text for message in reversed(messages) if message.role is Role.USER), "")


def _keys(messages: Sequence[Message]) -> tuple[str, ...]:
    """One key a token: pictures by content and position, text by word."""
    keys: list[str] = []
    for message in messages:
        for image in message.images:
            keys.extend(f"{image.sha256}:{index}" for index in range(_IMAGE_TOKENS))
        keys.extend(message.text.split())
    return tuple(keys)


def _common(left: Sequence[str], right: Sequence[str]) -> int:
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count


def _answer(question: str, pictures: int) -> list[str]:
    if "long" in question.split():
        return [f"word{index}" for index in range(_LONG_WORDS)]
    noun = "picture" if pictures == 1 else "pictures"
    return f"I see {pictures} {noun}. You said: {question}".split()
