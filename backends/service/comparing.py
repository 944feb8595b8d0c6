"""Sets what a loaded model really holds beside the formula, and keeps it for the next plans."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

from backends.errors import OutOfMemory, SnugError
from backends.hardware.types import HardwareSnapshot
from backends.history.measurements import Measurements, Row
from backends.messages import Done, Message, Timings
from backends.models.types import ModelInfo
from backends.placement.case import budgets
from backends.placement.correction import Correction, correction, device_kind
from backends.placement.estimate import Workload
from backends.placement.replay import replay
from backends.placement.types import Credit, DeviceShare, Plan, PlanRequest
from backends.reports import DeviceMeasured, DevicePeak, LoadReport, Measurement
from backends.service.recovery import device_of

LOG = logging.getLogger("snug.service")

# Free memory wavers: this share of a budget still counts as all of it.
_ABOUT = 0.95


@dataclass(slots=True)
class _Loaded:
    """One loaded model: what its caches have held, and the highest measurement so far."""

    pid: int
    placement: str
    report: LoadReport
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    tokens: dict[str, int] = field(default_factory=dict)
    images: int = 0
    image_tokens: int = 0
    timings: Timings | None = None
    best: Measurement | None = None

    def add(self, session: str, messages: Sequence[Message], done: Done) -> None:
        """Count an answer's tokens and pictures."""
        self.tokens[session] = done.usage.prompt_tokens + done.usage.completion_tokens
        pictures = [len(message.images) for message in messages]
        self.images = max(self.images, *pictures)
        if sum(pictures):
            self.image_tokens = max(self.image_tokens, -(-done.usage.image_tokens // sum(pictures)))
        if self.timings is None and done.usage.completion_tokens > 1:
            self.timings = done.timings

    def work(self, plan: Plan) -> Workload:
        """The most that was there at one time: all conversations' caches, never more than was planned.

        llama.cpp takes its whole cache at the load.
        """
        tokens = min(sum(self.tokens.values()), plan.context_tokens)
        if plan.engine == "llamacpp":
            tokens = plan.context_tokens
        return Workload(tokens, self.images, self.image_tokens if self.images else 0)


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer of the model in process `pid`, and what that process then told of its memory."""

    session: str
    messages: Sequence[Message]
    done: Done
    plan: Plan
    report: LoadReport
    pid: int
    peaks: Sequence[DevicePeak]


@dataclass(frozen=True, slots=True)
class Sources:
    """What comparing needs of the service, as functions (tests give their own).

    `hardware` is fresh; `credit` is what our own processes hold of it. `converted` is what a plan's converted
    files hold (None: its request's model as it is).
    """

    inspect: Callable[[PlanRequest], ModelInfo]
    hardware: Callable[[], HardwareSnapshot]
    credit: Callable[[], Credit]
    converted: Callable[[Plan], ModelInfo | None] = lambda _: None

    def model(self, plan: Plan) -> ModelInfo:
        """The model as `plan` loads it. Raises what `inspect` raises."""
        found = self.converted(plan) if plan.conversion is not None else None
        return found if found is not None else self.inspect(plan.request)


class Comparison:
    """Methods may be called from any thread, and never raise: an answer matters more than its figures."""

    def __init__(self, store: Measurements, sources: Sources, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._sources = sources
        self._clock = clock
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None
        self._seen: tuple[Row, ...] | None = None
        self._correction = Correction()

    @property
    def correction(self) -> Correction:
        """What all runs so far teach."""
        rows = self._store.rows()
        with self._lock:
            if rows is not self._seen:
                self._seen, self._correction = rows, correction([row.as_run() for row in rows])
            return self._correction

    def answered(self, answer: Answer) -> Measurement | None:
        """Compare after an answer; returns the measurement when it is the first or higher than before."""
        try:
            with self._lock:
                return self._compare(answer)
        except Exception:
            LOG.exception("An answer's memory could not be compared.")
            return None

    def failed(self, plan: Plan, error: SnugError) -> None:
        """Learn from an out-of-memory error: the device needed its whole budget, or more.

        Unless the budget was no longer there: what other programs took meanwhile teaches nothing.
        """
        if not isinstance(error, OutOfMemory):
            return
        try:
            guilty = [share for share in _guilty(plan, error) if self._had_its_budget(plan, share)]
            self._store.add(tuple(self._failure(plan, share) for share in guilty))
        except Exception:
            LOG.exception("An out-of-memory error could not be kept.")

    def last(self, plan: Plan) -> tuple[float, Measurement] | None:
        """(When, what) was measured last for exactly this model, placement, context and pictures."""
        try:
            model, placed = _fingerprint(self._sources.model(plan)), _placement(plan)
        except SnugError:
            return None
        rows = [
            row
            for row in self._store.rows()
            if (row.model, row.placement) == (model, placed) and not row.failed
        ]
        if not rows:
            return None
        return _restored([row for row in rows if row.run == rows[0].run])

    def _compare(self, answer: Answer) -> Measurement | None:
        plan, placed = answer.plan, _placement(answer.plan)
        before = self._loaded and (self._loaded.pid, self._loaded.placement, self._loaded.report)
        if self._loaded is None or before != (answer.pid, placed, answer.report):
            self._loaded = _Loaded(answer.pid, placed, answer.report)
        loaded = self._loaded
        loaded.add(answer.session, answer.messages, answer.done)
        if not answer.peaks or not answer.done.usage.completion_tokens:
            return None
        model, hardware = self._sources.model(plan), self._sources.hardware()
        work = loaded.work(plan)
        shares = {share.device: share for share in replay(hardware, model, plan, work)}
        measured = tuple(
            measured_device(peak, shares[peak.device], driver_bytes(hardware, peak.device, answer.pid))
            for peak in answer.peaks
            if peak.device in shares
        )
        if not measured or not _higher(measured, loaded.best):
            return None
        timings = loaded.timings or answer.done.timings
        best = loaded.best = Measurement(
            context_tokens=work.context_tokens,
            images=work.images,
            load_s=None if answer.report.moved else answer.report.seconds,
            load_peak_ram_bytes=None if answer.report.moved else dict(answer.report.peaks).get("cpu", 0),
            first_token_s=timings.first_token_s,
            tokens_per_s=timings.tokens_per_s,
            devices=measured,
        )
        common = _Common(loaded.name, self._clock(), plan, model)
        if plan.visible_gpus and not _gpus(plan):
            # Moved to RAM in a process that uses a GPU: it holds more than such a plan counts with.
            return best
        self._store.add(tuple(_row(common, shares[one.device], one, best) for one in measured))
        return best

    def _had_its_budget(self, plan: Plan, share: DeviceShare) -> bool:
        """Whether what is free now, with what our processes hold, is about what the plan counted on."""
        hardware = self._sources.hardware()
        limits = dict(plan.request.overrides.max_memory)
        now = budgets(hardware, hardware.gpus, self._sources.credit(), limits)
        there = now.get(share.device, 0) >= share.budget_bytes * _ABOUT
        if not there:
            LOG.info("Others took memory of %s after the plan was made; it teaches nothing.", share.device)
        return there

    def _failure(self, plan: Plan, share: DeviceShare) -> Row:
        model = self._sources.model(plan)
        return _failed_row(_Common(uuid.uuid4().hex, self._clock(), plan, model), share)


@dataclass(frozen=True, slots=True)
class _Common:
    """What the rows of one run share."""

    run: str
    at: float
    plan: Plan
    model: ModelInfo


def _row(common: _Common, share: DeviceShare, one: DeviceMeasured, whole: Measurement) -> Row:
    exact = share.weights_bytes + share.kv_cache_bytes
    facts = asdict(replace(whole, devices=())) | {"device": asdict(one)}
    return replace(
        _failed_row(common, share),
        failed=False,
        context_tokens=whole.context_tokens,
        images=whole.images,
        expected_bytes=one.expected_bytes - exact,
        measured_bytes=max(0, one.held_bytes - exact),
        facts=json.dumps(facts),
    )


def _failed_row(common: _Common, share: DeviceShare) -> Row:
    """The row of a device that ran out: it needed its whole budget, or more."""
    plan, exact = common.plan, share.weights_bytes + share.kv_cache_bytes
    return Row(
        run=common.run,
        device=share.device,
        at=common.at,
        engine=plan.engine,
        precision=plan.precision,
        kind=device_kind(share.device, share.name, with_gpu=bool(plan.visible_gpus)),
        model=_fingerprint(common.model),
        placement=_placement(plan),
        context_tokens=plan.context_tokens,
        images=plan.images,
        predicted=share,
        expected_bytes=share.total_bytes - exact,
        measured_bytes=max(share.budget_bytes, share.total_bytes) - exact,
        failed=True,
    )


def measured_device(peak: DevicePeak, share: DeviceShare, driver: int) -> DeviceMeasured:
    """Set `peak` beside the formula's `share` for the same work; `driver` is the process's bytes, or 0.

    RAM: pages of mapped weight files come and go; in their place the tensors in them count in full, as the
    plan counts weights. GPU: the driver's figure is of now, so what torch has given back since its peak is
    added; without it, context and workspaces are on neither side.
    """
    if not peak.device.startswith("cuda"):
        held = peak.peak_bytes - peak.mapped_bytes + peak.mapped_weights_bytes
        return DeviceMeasured(peak.device, held, peak.weights_bytes, share.total_bytes, "process")
    reserved = peak.peak_bytes
    told = driver >= peak.now_bytes > 0
    return DeviceMeasured(
        peak.device,
        driver - peak.now_bytes + reserved if told else reserved,
        peak.weights_bytes,
        share.total_bytes if told else share.total_bytes - share.overhead_bytes,
        "driver" if told else "allocator",
        peak.allocated_bytes,
        reserved,
    )


def driver_bytes(hardware: HardwareSnapshot, device: str, pid: int) -> int:
    """What the driver says that process `pid` holds on `device`; 0 where it does not tell."""
    return sum(
        process.bytes
        for gpu in hardware.gpus
        if f"cuda:{gpu.index}" == device
        for process in gpu.processes
        if process.pid == pid
    )


def _higher(measured: tuple[DeviceMeasured, ...], best: Measurement | None) -> bool:
    if best is None:
        return True
    before = {one.device: one.held_bytes for one in best.devices}
    return any(one.held_bytes > before.get(one.device, 0) for one in measured)


def _guilty(plan: Plan, error: OutOfMemory) -> list[DeviceShare]:
    """The share of the device that ran out; nothing where the plan has none, or nobody told which it was."""
    device = device_of(error, plan)
    return [share for share in plan.devices if share.device == device]


def _gpus(plan: Plan) -> set[str]:
    return {device for _, device in plan.device_map if device.startswith("cuda:")}


def _fingerprint(model: ModelInfo) -> str:
    """A model's shape: the same wherever its folder lies."""
    shape = (
        model.family,
        model.parameters,
        [(one.name, one.parameters, one.nbytes) for one in model.modules],
    )
    return hashlib.sha256(repr(shape).encode()).hexdigest()[:16]


def _placement(plan: Plan) -> str:
    """Everything of a plan that decides what its devices hold."""
    what = (
        *(plan.engine, plan.precision, plan.compute_dtype, plan.device_map, plan.cpu_layers_mode),
        *(plan.context_tokens, plan.images, plan.image_tokens),
    )
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


def _restored(rows: list[Row]) -> tuple[float, Measurement] | None:
    """The measurement that `rows` of one run were made from; None when they were not made here."""
    try:
        facts = [json.loads(row.facts) for row in rows]
        devices = tuple(DeviceMeasured(**one.pop("device")) for one in facts)
        return rows[0].at, Measurement(**facts[0] | {"devices": devices})
    except (TypeError, ValueError, KeyError):
        return None
