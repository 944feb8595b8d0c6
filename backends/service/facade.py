"""The facade that every user interface uses: machine, models, plans, one loaded model, conversations."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from backends.conversion.offer import makeable, unconverted
from backends.conversion.types import Offers
from backends.errors import OutOfMemory, SnugError
from backends.hardware.llama_build import computes_on_gpus, llama_version, without_gpus
from backends.hardware.types import HardwareSnapshot
from backends.history.measurements import Measurements
from backends.images import import_image
from backends.messages import Event, ImagePart, Message, Progress, SamplingParams
from backends.models.identify import ensure_loadable
from backends.models.types import ModelEntry, ModelInfo
from backends.placement import moving
from backends.placement.converted_words import not_installed
from backends.placement.ladder import Rung, Tried, When
from backends.placement.needs import Needs
from backends.placement.needs import needs as find_needs
from backends.placement.planner import plan as make_plan
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.reports import Measurement, UnloadReport
from backends.service import recovery
from backends.service.comparing import Comparison, Sources
from backends.service.conversations import Conversations
from backends.service.converted import ConvertedFiles, ConvertedUsage
from backends.service.host import ModelHost
from backends.service.journal import Journal
from backends.service.library import Library
from backends.service.machine import Machine
from backends.service.recovery import Offer
from backends.service.state import ModelState
from backends.settings import Settings
from backends.text import Text

_NOTHING_SET = Overrides()


class Service:
    """One machine, one loaded model at a time. Every method may be called from any thread.

    With `preload`, a child process imports the model libraries while nothing is asked yet. `engine`
    replaces the plans' engine (tests use `fake`).
    """

    def __init__(self, settings: Settings, *, preload: bool = True, engine: str | None = None) -> None:
        self._settings = settings
        self._engine = engine
        self._journal = Journal(settings.logs)
        self._library = Library(settings)
        self._machine = Machine(settings)
        self._host = ModelHost(self._machine, engine=engine, preload=preload)
        self._comparison = Comparison(
            Measurements(settings.home / "measurements.sqlite3"),
            Sources(
                self._model,
                hardware=lambda: self._machine.snapshot(self._host.pids, fresh=True),
                credit=lambda: self._machine.credit(self._host.pids, self._host.loaded),
                converted=self._converted_model,
            ),
        )
        self._host.on_failure = self._comparison.failed
        self._host.obstacle = self._obstacle
        self._host.files = lambda plan: self._library.stamp(plan.request.model)
        self._converted = ConvertedFiles(settings, lambda: self._host.loaded)
        self._host.on_loaded = self._on_loaded
        self._loaded_with_room = settings.leave_room
        self._conversations = Conversations(self._host, self._comparison)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def snapshot(self) -> HardwareSnapshot:
        """The hardware, at most a second old; GPU processes of our own are marked `ours`."""
        return self._machine.snapshot(self._host.pids)

    def models(self) -> tuple[ModelEntry, ...]:
        """The models that can be chosen."""
        return self._library.models()

    def inspect(self, model: str, named: Overrides = _NOTHING_SET) -> ModelInfo:
        """Read a model's config and headers; `named` has what a person named beside it (a LoRA's base).

        Raises ModelNotFound, ModelDamaged or ModelUnsupported.
        """
        return self._library.inspect(model, named)

    def leans_on(self, model: str) -> tuple[str, ...]:
        """What can be named beside a model, as fields of Overrides (`base` of a LoRA), found or not."""
        return self._library.leans_on(model)

    def _model(self, request: PlanRequest) -> ModelInfo:
        return self.inspect(request.model, request.overrides)

    def plan(self, request: PlanRequest, hardware: HardwareSnapshot | None = None) -> Plan:
        """Decide where everything goes, on this machine or on the one described by `hardware`.

        On this machine, memory that our own processes will give back counts as free, and what earlier runs
        measured corrects the formula. Raises what
        `inspect` raises, and SettingInvalid or DeviceMapInvalid for overrides that can't be.
        """
        model = self._model(request)
        if hardware is not None:
            return make_plan(hardware, model, request, offers=unconverted(self._offers(request)))
        credit = self._machine.credit(self._host.pids, self._host.loaded)
        offload = str(self._settings.offload)
        return make_plan(
            self._usable_for(model),
            model,
            request,
            credit=credit,
            offload_root=offload,
            correction=self._comparison.correction,
            offers=self._offers_here(request),
            llama_on_gpus=computes_on_gpus(),
        )

    def measured(self, plan: Plan) -> tuple[float, Measurement] | None:
        """(Seconds since 1970, measurement) of the last run that was loaded and used just as `plan` says."""
        return self._comparison.last(plan)

    def next_step(
        self,
        error: OutOfMemory,
        failed: Plan,
        when: When,
        *,
        prompt_tokens: int = 0,
        tried: Tried = MappingProxyType({}),
        without: Collection[Rung] = (),
    ) -> Offer:
        """Find what to try after `failed` ran out of memory: the ladder's steps, each with its own plan.

        `prompt_tokens` is the length of the conversation that must still fit, `tried` the requests that ran
        out before, with the rungs that led to them; the rungs of `without` are left out.
        Raises what `inspect` raises.
        """
        shortage = recovery.shortage_of(error, failed, when, prompt_tokens)
        return recovery.offer(error, failed, shortage, self._model, self.plan, tried, without)

    def usable(self) -> HardwareSnapshot:
        """The hardware that plans count on: without GPUs that the installed torch can't use."""
        return self._machine.usable(self._host.pids)

    def needs(self, request: PlanRequest, hardware: HardwareSnapshot | None = None) -> Needs:
        """Find the nearest change that runs `request` and the card that holds it at full precision.

        On this machine or on the one described by `hardware`. Takes about a second; raises what `plan` does.
        """
        model = self._model(request)
        if hardware is not None:
            return find_needs(hardware, model, request, offers=unconverted(self._offers(request)))
        credit = self._machine.credit(self._host.pids, self._host.loaded)
        offload = str(self._settings.offload)
        return find_needs(
            self._usable_for(model),
            model,
            request,
            credit=credit,
            offload_root=offload,
            offers=self._offers_here(request),
            llama_on_gpus=computes_on_gpus(),
        )

    def _offers(self, request: PlanRequest) -> Offers:
        return self._library.offers(request.model, request.overrides)

    def _offers_here(self, request: PlanRequest) -> Offers:
        """What the model can be converted to where llama.cpp is installed."""
        found = self._offers(request)
        if found.variants and llama_version() is None:
            return Offers(why_not=not_installed())
        return makeable(found, self._settings.converted)

    def _converted_model(self, plan: Plan) -> ModelInfo | None:
        """What the converted files of `plan` hold."""
        kinds = {one.conversion.kind: one.model for one in self._offers(plan.request).variants}
        return kinds.get(plan.conversion.kind) if plan.conversion is not None else None

    def _usable_for(self, model: ModelInfo) -> HardwareSnapshot:
        """What plans for `model` may count on: its engine may be built for the processor only."""
        if model.format != "gguf":
            return self.usable()
        return without_gpus(self.usable(), able=computes_on_gpus())

    def calibrate(self) -> None:
        """Measure memory and processor speed once, so that plans need not assume them; kept on disk."""
        self._machine.calibrate()

    def import_image(self, source: Path | bytes, name: str) -> ImagePart:
        """Decode and store a picture. Raises ImageUnreadable, ImageTooLarge, DiskFull or FolderReadOnly."""
        return import_image(source, name, self._settings)

    def load(self, plan: Plan) -> Iterator[Progress]:
        """Load a model; the one before is unloaded first, a load under way gives way (it raises Cancelled).

        The same model is not loaded again where it can be moved (`why_reload`): it takes its new places in
        memory once the answer under way has ended. Where that fails, it answers as before, or is loaded. The
        load starts at once and goes on whether the iterator is followed or not; `cancel_load` stops
        it. The iterator gives the newest progress and raises what went wrong (any SnugError), or at once
        ModelDamaged for a model of which only the headers are here.
        """
        if self._engine is None:
            ensure_loadable(self._model(plan.request))
        self._converted.opens(plan)
        return self._host.load(plan)

    def why_reload(self, plan: Plan) -> Text | None:
        """Why `load(plan)` would read the model's files; None where it moves the model that is in memory."""
        return self._host.why_reload(plan)

    def _on_loaded(self, plan: Plan) -> None:
        self._loaded_with_room = self._machine.leave_room
        self._converted.loaded(plan)

    @property
    def leave_room(self) -> bool:
        """Whether models that are loaded from now on leave a part of the processor to other programs."""
        return self._machine.leave_room

    def set_leave_room(self, on: bool) -> None:
        """Choose it; a model that is loaded stays as it is until it is loaded again."""
        if on != self._machine.leave_room:
            self._machine.leave_room = on
            self._host.renew_spare()

    @property
    def loads_differently(self) -> bool:
        """Whether the same plan, loaded again, would come out otherwise: `leave_room` has changed since."""
        return self._loaded_with_room != self._machine.leave_room

    def _obstacle(self, old: Plan, new: Plan) -> Text | None:
        """What is in the way of moving: of the plans themselves, then of what is free now."""
        if self.loads_differently:
            return Text("move.leave_room", "How much of the processor it uses is decided when it is loaded.")
        if (found := moving.why_reload(old, new)) is not None:
            return found
        try:
            model = self._model(new.request)
        except SnugError:
            return None  # the engine looks as well
        return moving.why_no_room(old, new, model, moving.room(self.usable()))

    def cancel_load(self) -> None:
        """Stop the load under way, if any; a model that was being moved is where it was before."""
        self._host.cancel_load()

    def unload(self) -> UnloadReport:
        """Give the model's memory back; returns when the system has it. Running answers end as cancelled."""
        return self._host.unload()

    def state(self) -> ModelState:
        """What the model is doing now."""
        busy, waiting = self._conversations.busy, self._conversations.waiting
        return replace(self._host.state, busy=busy, waiting=waiting)

    def chat(self, session: str, messages: Sequence[Message], sampling: SamplingParams) -> Iterator[Event]:
        """Answer the last message: `Queued` while others are served, then progress and text, `Done` last.

        While a model is loading, the load's progress is given and the answer follows. One request of a
        session runs at a time. Closing the iterator stops the answer. Raises NotLoaded, WorkerCrashed
        and WorkerHung (with the stage "answering"), ContextExceeded, OutOfGpuMemory, OutOfRam.
        """
        return self._conversations.chat(session, messages, sampling)

    def cancel(self, session: str) -> None:
        """Stop the session's answer within a token; its iterator ends with Done("cancelled")."""
        self._conversations.cancel(session)

    def prime(self, session: str, messages: Sequence[Message]) -> None:
        """Prepare an unfinished conversation in the background; gives way to every question at once.

        The last message is the draft: its pictures are final, its text is not. Returns immediately. A
        newer draft of the session replaces the one before; a draft waits for a model that is loading.
        """
        self._conversations.prime(session, messages)

    def cancel_prime(self, session: str) -> None:
        """Forget the session's draft."""
        self._conversations.cancel_prime(session)

    def restart(self) -> Iterator[Progress]:
        """Load the last plan again, after a crash or an unload. Raises NotLoaded when there was none."""
        return self._host.restart()

    def converted(self) -> ConvertedUsage:
        """How much the checkpoints take that were converted for llama.cpp."""
        return self._converted.usage()

    def clear_converted(self) -> int:
        """Remove the converted files, but those of the loaded model; returns the bytes that came free."""
        return self._converted.clear()

    def close(self) -> None:
        """End every process and thread; the service can't be used afterwards."""
        self._host.close()
        self._machine.close()
        self._journal.close()
