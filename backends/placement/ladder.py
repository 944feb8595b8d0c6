"""What to try when memory ran out all the same: smaller steps first, each judged by the planner. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import count, takewhile
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from backends.errors import InputError
from backends.models.types import ModelInfo, ModuleKind
from backends.placement import ladder_words as words
from backends.placement.case import CPU, DISK, GGUF_ENGINE
from backends.placement.types import DeviceShare, EngineName, Overrides, Plan, PlanRequest
from backends.placement.workload import LEAST_PICTURE_TOKENS
from backends.presets import MEANT, QUESTION_TOKENS, Preset
from backends.text import Text

When = Literal["load", "image", "chat"]
Judge = Callable[[PlanRequest], Plan]
Tried: TypeAlias = "Mapping[PlanRequest, Rung | None]"

# What an answer may still take after "a shorter answer reserve", milder first.
_RESERVES = (512, 256)
_ROUND_TO = 64
# An allocation that failed tells the least that is missing: the next ones may be as many again. Where even
# that is not known, the margin that was not enough stands for it.
_LEAST_SHARE, _UNKNOWN_SHARE = 256, 64
_MOST_TRIALS = 12


class Rung(StrEnum):
    """The ladder's rungs (DESIGN section 8), in order; LLAMACPP, HALF and DISK serve what runs in RAM."""

    CONTEXT = "context"
    DETAIL = "detail"
    LAYERS = "layers"
    LLAMACPP = "llamacpp"
    HALF = "half"
    INT8 = "int8"
    NF4 = "nf4"
    CPU = "cpu"
    DISK = "disk"


@dataclass(frozen=True, slots=True)
class Shortage:
    """What ran out: `device` (`cuda:0`, `cpu`), when, and the allocation that failed (0: not known).

    `prompt_tokens` is the length of the conversation that must still fit, where it is known.
    """

    device: str
    when: When
    needed_bytes: int = 0
    free_bytes: int = 0
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """A way on: `plan` is the planner's own for `plan.request`, and fits.

    `name` says what is done, `costs` what it costs and brings, `freed_bytes` what the device holds less.
    """

    rung: Rung
    plan: Plan
    name: Text
    costs: tuple[Text, ...]
    freed_bytes: int

    @property
    def request(self) -> PlanRequest:
        """What to ask for to take the step."""
        return self.plan.request


def steps(  # noqa: PLR0917 - what happened, and what a step is judged by
    failed: Plan,
    shortage: Shortage,
    model: ModelInfo,
    judge: Judge,
    tried: Tried = MappingProxyType({}),
    without: Collection[Rung] = (),
) -> Iterator[Step]:
    """The steps that help, in the ladder's order, each worked out when it is asked for.

    `judge` plans a request on the machine as it is now. A step is left out when its plan does not fit,
    frees too little of what ran out, does not do what its rung says, or is among `tried`: the requests
    that ran out of memory before, each with the rung that led to it (None for the person's own). Each of
    them doubles what a step must free, and a rung that was not enough comes again after the others. The rungs
    of `without` are left out: they are known to lead nowhere.
    """
    climb = _Climb(failed, shortage, model, judge, tried)
    last = {Rung.CPU: 2, Rung.DISK: 2} | dict.fromkeys({*tried.values()} - {None, Rung.CPU, Rung.DISK}, 1)
    for rung in sorted((rung for rung in Rung if rung not in without), key=lambda rung: last.get(rung, 0)):
        step = climb.step(rung)
        if step is not None:
            yield step


def nothing_left(failed: Plan, shortage: Shortage) -> Text:
    """What to say when `steps` is empty."""
    if shortage.device == CPU:
        return words.nothing_left_ram()
    return words.nothing_left_gpu(words.device_name(failed, shortage.device))


@dataclass(frozen=True, slots=True)
class _Climb:
    failed: Plan
    shortage: Shortage
    model: ModelInfo
    judge: Judge
    tried: Tried

    @property
    def device(self) -> str:
        return self.shortage.device

    @property
    def missing(self) -> int:
        """Bytes that a step must free."""
        known = self.shortage.needed_bytes - self.shortage.free_bytes
        least = held(self.failed, self.device, self.shortage.when)
        least //= _LEAST_SHARE if known > 0 else _UNKNOWN_SHARE
        # What was thought to be missing was too little each time before: nobody wants to load twenty times.
        return max(known, least, 1) << len({*self.tried} - {self.failed.request})

    def step(self, rung: Rung) -> Step | None:
        """The mildest request of `rung` that helps."""
        for request in _REQUESTS[rung](self):
            if request in self.tried or request == self.failed.request:
                continue
            try:
                plan = self.judge(request)
            except InputError:
                continue  # the model or the machine does not have what the rung would set
            freed = self._frees(plan)
            enough = freed >= self.missing or (freed > 0 and held(plan, self.device, self.shortage.when) == 0)
            if plan.verdict != "no" and enough and self._as_said(rung, plan):
                costs = words.costs(rung, self.failed, plan, self.device, self.layers_on)
                return Step(rung, plan, words.name(rung), costs, freed)
        return None

    def _frees(self, plan: Plan) -> int:
        when = self.shortage.when
        return held(self.failed, self.device, when) - held(plan, self.device, when)

    def layers_on(self, plan: Plan) -> int:
        """Decoder layers on the device that ran out."""
        layers = {module.name for module in self.model.modules if module.kind is ModuleKind.LAYER}
        return sum(name in layers and place == self.device for name, place in plan.device_map)

    def _as_said(self, rung: Rung, plan: Plan) -> bool:
        """Whether `plan` does what the rung says, and nothing that a later rung would have to say."""
        failed, same_precision = self.failed, plan.precision == self.failed.precision
        as_said = not same_precision and (plan.gpu_layers > 0 or failed.gpu_layers == 0)
        match rung:
            case Rung.CONTEXT:
                as_said = same_precision and plan.gpu_layers == failed.gpu_layers
            case Rung.DETAIL:
                less = plan.image_tokens < failed.image_tokens
                as_said = less and same_precision and plan.gpu_layers == failed.gpu_layers
            case Rung.LAYERS:
                as_said = same_precision and 0 < self.layers_on(plan) < self.layers_on(failed)
            case Rung.CPU:
                return plan.gpu_layers == 0
            case Rung.LLAMACPP:
                return plan.engine == GGUF_ENGINE and plan.gpu_layers == 0
            case Rung.DISK:
                return _on_disk(plan)
        return as_said and (_on_disk(failed) or not _on_disk(plan))

    # What each rung asks for, milder first.

    def shorter(self) -> Iterator[PlanRequest]:
        """Less room for the answer."""
        pictures = self.failed.images * self.failed.image_tokens
        asked = max(self.shortage.prompt_tokens, pictures + QUESTION_TOKENS)
        for reserve in _RESERVES:
            context = -(-(asked + reserve) // _ROUND_TO) * _ROUND_TO
            if context < self.failed.context_tokens:
                yield from self._pinned(context_tokens=context)

    def coarser(self) -> Iterator[PlanRequest]:
        """Pictures of fewer tokens, and less room for them."""
        vision, failed = self.model.vision, self.failed
        if vision is None or not vision.dynamic or not failed.images:
            return
        for divisor in (2, 4, 8):
            tokens = failed.image_tokens // divisor
            if tokens < min(LEAST_PICTURE_TOKENS, vision.tokens_per_image):
                return
            saved = failed.images * (failed.image_tokens - tokens)
            context = max(failed.context_tokens - saved, self.shortage.prompt_tokens + _RESERVES[-1])
            yield from self._pinned(image_tokens=tokens, context_tokens=min(context, failed.context_tokens))

    def fewer_layers(self) -> Iterator[PlanRequest]:
        """As many layers fewer on the GPU as are missing; with several GPUs, less on the one that ran out."""
        if self.device == CPU:
            return
        if len(_gpus(self.failed)) > 1:
            yield self._changed(self._pins(gpu_layers=None, max_memory=self._capped()))
            return
        here, share = self.failed.gpu_layers, _share(self.failed, self.device)
        if share is None or here < 2:
            return
        each = max(1, (share.weights_bytes + share.kv_cache_bytes) // here)
        first = max(1, -(-self.missing // each))
        # 1, 2, 3, 5, 8, ... layers more: near the first guess in single steps, then in leaps.
        leaps = takewhile(lambda fewer: fewer < here, (first + trial * (trial + 1) // 2 for trial in count()))
        for trial, fewer in enumerate(leaps):
            if trial == _MOST_TRIALS:
                return
            yield self._changed(self._pins(gpu_layers=here - fewer, device_map=None))

    def llamacpp(self) -> Iterator[PlanRequest]:
        """The other engine, where transformers computes on the processor alone: in 8 bits, else in 4."""
        if self.device == CPU and self.failed.engine == "transformers" and not _gpus(self.failed):
            yield self._on_cpu(None)
            yield self._on_cpu("q4_0")

    def half(self) -> Iterator[PlanRequest]:
        """16 bits a weight where 32 are used."""
        if self.failed.precision == "fp32":
            yield from self._narrower("bf16")

    def int8(self) -> Iterator[PlanRequest]:
        """8 bits a weight."""
        if self.failed.conversion is not None:
            if self.failed.precision == "f16":
                yield from self._narrower("q8_0")
        elif self.failed.precision not in ("int8", "nf4"):
            yield from self._narrower("int8")

    def nf4(self) -> Iterator[PlanRequest]:
        """4 bits a weight."""
        if self.failed.conversion is not None:
            if self.failed.precision != "q4_0":
                yield from self._narrower("q4_0")
        elif self.failed.precision != "nf4":
            yield from self._narrower("nf4")

    def on_cpu(self) -> Iterator[PlanRequest]:
        """No GPU at all."""
        if self.device != CPU:
            yield self._on_cpu(None, engine=self.failed.request.overrides.engine)

    def _on_cpu(self, precision: str | None, engine: EngineName | None = None) -> PlanRequest:
        """The preset for processors, which prefers llama.cpp, without settings that belong to GPUs."""
        asked = self.failed.request
        limits = tuple(limit for limit in asked.overrides.max_memory if not limit[0].startswith("cuda:"))
        overrides = replace(
            asked.overrides,
            gpus=None,
            gpu_layers=None,
            precision=precision,
            engine=engine,
            cpu_layers_mode=None,
            device_map=None,
            offload_dir=None,
            max_memory=limits,
        )
        return replace(asked, preset=Preset.CPU, overrides=overrides)

    def on_disk(self) -> Iterator[PlanRequest]:
        """Less in RAM, the rest on the disk."""
        if self.device != CPU:
            return
        own = self.failed.request.preset
        # A preset that never uses the disk gives way to the one that may use everything.
        for preset in (own,) if own in (Preset.CPU, Preset.AUTO) else (own, Preset.AUTO):
            overrides = self._pins(gpu_layers=None, device_map=None, max_memory=self._capped())
            if self.failed.conversion is not None:  # llama.cpp keeps nothing on the disk
                overrides = replace(overrides, precision=None, engine="transformers")
            yield replace(self.failed.request, preset=preset, overrides=overrides)

    def _narrower(self, precision: str) -> Iterator[PlanRequest]:
        """In another precision: where the planner likes it, else with what is missing kept free."""
        free = replace(self.failed.request.overrides, precision=precision, gpu_layers=None)
        yield self._changed(free)
        yield self._changed(replace(free, max_memory=self._capped()))

    def _pinned(self, *, context_tokens: int, image_tokens: int | None = None) -> Iterator[PlanRequest]:
        """The plan as it is, but for what lies in it: the planner must not spend what is saved."""
        work = self._pins(context_tokens=context_tokens)
        if image_tokens is not None:
            work = replace(work, image_tokens=image_tokens)
        yield self._changed(work)
        # A plan that fills a device up to the disk's share does so again, unless it is told not to.
        if _on_disk(self.failed):
            yield self._changed(replace(work, max_memory=self._capped()))

    def _pins(self, **changes: Any) -> Overrides:  # noqa: ANN401 - fields of Overrides
        """The overrides, with precision and layers as the failed plan has them, then `changes`."""
        asked = self.failed.request.overrides
        # High means all layers anyway, and a number of layers would mean something else.
        high = self.failed.request.preset is Preset.HIGH
        one_gpu = len(_gpus(self.failed)) == 1 and asked.device_map is None and not high
        pinned = replace(
            asked,
            precision=self.failed.precision,
            gpu_layers=self.failed.gpu_layers if one_gpu else asked.gpu_layers,
        )
        return replace(pinned, **changes)

    def _changed(self, overrides: Overrides) -> PlanRequest:
        """The request with `overrides`; a preset that would no longer mean what it says becomes Custom."""
        preset = self.failed.request.preset
        meant = MEANT.get(preset)
        if meant is not None and overrides.precision not in meant:
            preset = Preset.CUSTOM
        if preset is Preset.HIGH and overrides.gpu_layers is not None:
            preset = Preset.CUSTOM
        return replace(self.failed.request, preset=preset, overrides=overrides)

    def _capped(self) -> tuple[tuple[str, int], ...]:
        """The limits, with the device's at what it holds less what is missing."""
        cap = max(0, held(self.failed, self.device, "chat") - self.missing)
        kept = dict(self.failed.request.overrides.max_memory)
        return tuple((kept | {self.device: min(cap, kept.get(self.device, cap))}).items())


_REQUESTS: dict[Rung, Callable[[_Climb], Iterator[PlanRequest]]] = {
    Rung.CONTEXT: _Climb.shorter,
    Rung.DETAIL: _Climb.coarser,
    Rung.LAYERS: _Climb.fewer_layers,
    Rung.LLAMACPP: _Climb.llamacpp,
    Rung.HALF: _Climb.half,
    Rung.INT8: _Climb.int8,
    Rung.NF4: _Climb.nf4,
    Rung.CPU: _Climb.on_cpu,
    Rung.DISK: _Climb.on_disk,
}


def held(plan: Plan, device: str, when: When) -> int:
    """Bytes that `plan` holds on `device` at its peak; while loading there is no cache and no picture yet."""
    share = _share(plan, device)
    if share is None:
        return 0
    if when != "load":
        return share.total_bytes
    if device == CPU:
        return plan.load_peak_ram_bytes
    return share.weights_bytes + share.staging_bytes + share.overhead_bytes


def _share(plan: Plan, device: str) -> DeviceShare | None:
    return next((share for share in plan.devices if share.device == device), None)


def _gpus(plan: Plan) -> set[str]:
    """The GPUs that hold something; the process may see more, from before it was moved."""
    return {device for _, device in plan.device_map if device.startswith("cuda:")}


def _on_disk(plan: Plan) -> bool:
    return any(device == DISK for _, device in plan.device_map)
