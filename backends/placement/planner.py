"""The decision: judges what a preset allows and returns the best, with reasons and alternatives. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from backends.conversion.types import Offers
from backends.errors import SettingInvalid
from backends.hardware import builds
from backends.hardware.types import HardwareSnapshot
from backends.models.types import ModelInfo, ModuleKind
from backends.placement import (
    budget,
    case,
    checks,
    converted,
    converted_words,
    devicemap,
    gguf,
    precision_words,
    topology,
)
from backends.placement import precision as precisions
from backends.placement.candidates import Candidate, candidates
from backends.placement.case import CPU, DISK, Case, Layout
from backends.placement.correction import NEUTRAL, Correction
from backends.placement.evaluate import evaluate
from backends.placement.explain import explain
from backends.placement.precision import quality, quantizable
from backends.placement.rejected import alternatives
from backends.placement.types import CpuLayersMode, Credit, Overrides, Plan, PlanRequest
from backends.placement.workload import workload
from backends.presets import PlacementKind, Policy, Preset, policy
from backends.text import Text

_NO_CREDIT = Credit()
# A layout must answer this much sooner to be worth more of the machine.
_WORTH = 1.1
# A preset's own layout is left for what it resorts to where that answers this much sooner.
_RESORTS = 2.0


def plan(
    hardware: HardwareSnapshot,
    model: ModelInfo,
    request: PlanRequest,
    *,
    credit: Credit = _NO_CREDIT,
    offload_root: str | None = None,
    correction: Correction = NEUTRAL,
    offers: Offers = converted.NO_OFFERS,
    llama_on_gpus: bool = False,
) -> Plan:
    """Decide how to load `model` on `hardware`.

    `credit` is what our loaded model will give back first. `offload_root` is the folder below which
    offloaded weights may lie (default: `offload` beside the snapshot's disk path). `correction` is what
    earlier runs teach. `offers` is what the checkpoint can be converted to for llama.cpp, and `llama_on_gpus`
    whether that computes on GPUs there. Always returns a plan; its verdict is "no" when nothing fits, and it
    then shows what came nearest. Raises SettingInvalid or DeviceMapInvalid for settings that can't be carried
    out.
    """
    hardware = builds.usable(hardware)
    llama = _Llama(converted.offered(offers, hardware.cpu), on_gpus=llama_on_gpus)
    checks.check(hardware, model, request, llama.offers, llama_on_gpus=llama_on_gpus)
    asked = replace(_case(hardware, model, request, credit, offload_root), correction=correction)
    asked, shortened = _shortened(asked, llama)
    llama = replace(llama, offers=converted.within(llama.offers, asked.work.context_tokens))
    found = _by_hand(asked) if request.overrides.device_map is not None else _candidates(asked, llama)
    if not found:
        found = _stand_in(asked, llama)
    chosen = _choose(asked.policy, found)
    others = [candidate for candidate in found if candidate is not chosen]
    if not chosen.outcome.fits and (asked.policy != policy(Preset.AUTO) or request.overrides != Overrides()):
        others += _beyond(asked, llama)
    made = _to_plan(asked, chosen, others, llama)
    return replace(made, reasons=(*made.reasons, *shortened))


@dataclass(frozen=True, slots=True)
class _Llama:
    """What llama.cpp can be given, and whether it computes on GPUs."""

    offers: Offers
    on_gpus: bool


def _shortened(asked: Case, llama: _Llama) -> tuple[Case, tuple[Text, ...]]:
    """`asked` with the context that llama.cpp reads at most, where nothing else may run and nobody set one.

    Raises SettingInvalid where the pictures leave no room in it.
    """
    overrides = asked.request.overrides
    most = converted.longest(llama.offers)
    if most is None or overrides.context_tokens is not None or not converted.only_converted(asked.request):
        return asked, ()
    if asked.work.context_tokens <= most:
        return asked, ()
    try:
        work = workload(asked.model, replace(overrides, context_tokens=most))
    except SettingInvalid as error:
        raise converted.too_short(asked.request, most) from error
    return replace(asked, work=work), (converted_words.short_context(most),)


def question(hardware: HardwareSnapshot, model: ModelInfo, request: PlanRequest) -> Case:
    """What `plan` judges layouts against, for those who judge layouts of their own."""
    return _case(builds.usable(hardware), model, request, _NO_CREDIT, None)


def _case(
    hardware: HardwareSnapshot,
    model: ModelInfo,
    request: PlanRequest,
    credit: Credit,
    offload_root: str | None,
) -> Case:
    gpus = checks.chosen_gpus(hardware, request)
    limits = dict(request.overrides.max_memory)
    budgets = case.budgets(hardware, gpus, credit, limits)
    by_index = {gpu.index: budgets[case.cuda(gpu)] for gpu in gpus}
    root = offload_root if offload_root is not None else _joined(hardware.disk.path, "offload")
    return Case(
        hardware=hardware,
        model=model,
        request=request,
        policy=_policy(request, model),
        credit=credit,
        gpus=topology.order_for_split(gpus, by_index, credit),
        budgets=budgets,
        commit=budget.commit_budget(hardware, credit),
        work=workload(model, request.overrides),
        offload_dir=request.overrides.offload_dir or _joined(root, model.name),
    )


def _joined(folder: str, name: str) -> str:
    """Join in the folder's own manner: it may describe another system than this one."""
    separator = "\\" if "\\" in folder and "/" not in folder else "/"
    return f"{folder.rstrip('/' + chr(92))}{separator}{name}"


def _policy(request: PlanRequest, model: ModelInfo) -> Policy:
    """The preset's policy, narrowed by what the person set."""
    base = policy(request.preset)
    overrides = request.overrides
    if overrides.precision is not None:
        base = replace(base, precisions=(overrides.precision,))
    kinds: tuple[PlacementKind, ...] | None = None
    if overrides.gpu_layers == 0:
        kinds = ("cpu", "disk")
    elif overrides.gpu_layers is not None:
        kinds = ("gpu", "gpus") if overrides.gpu_layers == model.layers else ("hybrid",)
    if overrides.gpu_layers == 0 and overrides.precision is None:
        base = replace(base, precisions=("checkpoint",))
    if kinds is not None:
        base = replace(base, placements=kinds)
    return base


def _candidates(asked: Case, llama: _Llama, *, hopeful: bool = False) -> tuple[Candidate, ...]:
    """What the engine of the model's format can do, and llama.cpp with what the model can be converted to."""
    if asked.model.format == "gguf":
        return gguf.candidates(asked)
    ours = converted.candidates(asked, llama.offers, on_gpus=llama.on_gpus)
    if converted.only_converted(asked.request):
        return tuple(ours)
    return converted.merged(candidates(asked, hopeful=hopeful), ours)


def _by_hand(asked: Case) -> tuple[Candidate, ...]:
    """The person's own map, in the first precision of the preset (or the one that was set)."""
    model, overrides = asked.model, asked.request.overrides
    indices = [gpu.index for gpu in asked.gpus]
    left_out = checks.left_out(asked.hardware, asked.request)
    devices = devicemap.resolve(model, overrides.device_map or (), indices, left_out)
    used = tuple(gpu for gpu in asked.gpus if case.cuda(gpu) in devices)
    choice = asked.policy.precisions[0]
    if (old := precisions.too_old(choice, used)) is not None:
        if overrides.precision is not None:
            raise SettingInvalid(
                name="precision",
                value=choice,
                detail=precision_words.gpu_too_old(choice, old),
                suggestion=Text(
                    "check.other_precision", "Choose another precision, or another GPU for these parts."
                ),
            )
        choice = "checkpoint"
    layers = [
        device
        for module, device in zip(model.modules, devices, strict=True)
        if module.kind is ModuleKind.LAYER
    ]
    on_gpus = any(device.startswith("cuda:") for device in layers)
    if choice in ("int8", "nf4") and overrides.precision is None and not on_gpus:
        choice = "checkpoint"
    mode: CpuLayersMode | None = None
    if used:
        precision = precisions.on_gpus(choice, model.dtype, used)
        layers_off = any(device in (CPU, DISK) for device in layers)
        mode = (overrides.cpu_layers_mode or "compute") if layers_off else None
    else:
        precision = precisions.on_cpu(choice, asked.hardware.cpu, model.parameters)[0]
        if precision.quantized:
            devicemap.check_no_disk(model, devices, precision.name)
    return (Candidate(choice, "hybrid", evaluate(asked, Layout(precision, devices, mode))),)


def _stand_in(asked: Case, llama: _Llama) -> tuple[Candidate, ...]:
    """What is shown when the preset allows nothing on this machine: the model in RAM, as a measure.

    It never counts as fitting, because the preset does not allow it.
    """
    variant = None
    if asked.model.format == "gguf":
        outcome = gguf.in_ram(asked)
    elif converted.only_converted(asked.request) and (ours := converted.in_ram(asked, llama.offers)):
        variant, outcome = ours
    else:
        precision = precisions.on_cpu("checkpoint", asked.hardware.cpu, asked.model.parameters)[0]
        outcome = evaluate(asked, Layout(precision, (CPU,) * len(asked.model.modules)))
    refused = replace(outcome, missing_bytes=max(1, outcome.missing_bytes), refused=True)
    engine = asked.engine if variant is None else case.GGUF_ENGINE
    return (Candidate("checkpoint", "cpu", refused, engine=engine, variant=variant),)


def _beyond(asked: Case, llama: _Llama) -> list[Candidate]:
    """What would run if the person let Snug decide: what Recommended chooses, then its other layouts.

    How the model is loaded is left to Snug; which GPUs and how much memory it may use stays as it was set.
    """
    how = replace(
        asked.request.overrides,
        precision=None,
        gpu_layers=None,
        device_map=None,
        cpu_layers_mode=None,
        engine=None,
    )
    free = replace(asked.request, preset=Preset.AUTO, overrides=how)
    wide = replace(
        _case(asked.hardware, asked.model, free, asked.credit, None),
        offload_dir=asked.offload_dir,
        correction=asked.correction,
    )
    if (wide.policy, wide.gpus, how) == (asked.policy, asked.gpus, asked.request.overrides):
        return []  # that has been judged
    llama = replace(llama, offers=converted.within(llama.offers, wide.work.context_tokens))
    found = _candidates(wide, llama, hopeful=True)
    fitting = [candidate for candidate in found if candidate.outcome.fits]
    if not fitting:
        return []
    first = _choose(wide.policy, tuple(fitting))
    return [first, *sorted((other for other in fitting if other is not first), key=_rank)]


def _rank(candidate: Candidate) -> tuple[bool, int, float]:
    outcome = candidate.outcome
    return outcome.verdict != "fits", quality(outcome.layout.precision.name), outcome.expected.answer_s


def _choose(allowed: Policy, found: tuple[Candidate, ...]) -> Candidate:
    """Pick by the policy's aim (DESIGN section 3)."""
    fitting = [candidate for candidate in found if candidate.outcome.fits]
    if not fitting:
        return min(found, key=lambda candidate: (candidate.fallback, candidate.outcome.missing_bytes))
    if not allowed.reading_speed:
        first = fitting[0]
        same = [other for other in fitting if (other.choice, other.kind) == (first.choice, first.kind)]
        if first.kind not in ("hybrid", "disk"):
            return first
        best = _soonest(same)
        most = best.outcome.expected.answer_s / (1 if best.fallback else _RESORTS)
        sooner = [other for other in fitting if other.fallback and other.outcome.expected.answer_s < most]
        return _soonest(sooner) if sooner else best
    readable = [candidate for candidate in fitting if candidate.outcome.verdict == "fits"]
    if not readable:
        return _soonest(fitting)
    least = min(quality(candidate.outcome.layout.precision.name) for candidate in readable)
    return _soonest([other for other in readable if quality(other.outcome.layout.precision.name) == least])


def _soonest(found: list[Candidate]) -> Candidate:
    """The first, in the policy's order, that has answered about as soon as the soonest; of its kind, that.

    A typical answer counts, with the wait for its first word: computing in RAM and streaming to the GPU
    differ most in that.
    """
    least = min(candidate.outcome.expected.answer_s for candidate in found)
    first = next(other for other in found if other.outcome.expected.answer_s <= least * _WORTH)
    same = [other for other in found if (other.choice, other.kind) == (first.choice, first.kind)]
    return min(same, key=lambda other: other.outcome.expected.answer_s)


def _to_plan(asked: Case, chosen: Candidate, others: list[Candidate], llama: _Llama) -> Plan:
    outcome, model = chosen.outcome, asked.model
    idle = chosen.variant is not None and bool(asked.gpus) and not llama.on_gpus
    if chosen.variant is not None:
        asked = converted.case_of(asked, chosen.variant, on_gpus=llama.on_gpus)
    layout = outcome.layout
    placed = tuple(zip((module.name for module in model.modules), layout.devices, strict=True))
    layer_devices = [
        device
        for module, device in zip(model.modules, layout.devices, strict=True)
        if module.kind is ModuleKind.LAYER
    ]
    off_gpu = any(device in (CPU, DISK) for device in layout.devices)
    split_layers = bool(layout.gpus) and any(device in (CPU, DISK) for device in layer_devices)
    return Plan(
        request=asked.request,
        model_path=str(model.path),
        family=model.family,
        parameters=model.parameters,
        layers=model.layers,
        format=model.format,
        engine=chosen.engine,
        precision=layout.precision.name,
        verdict=outcome.verdict,
        device_map=placed,
        gpu_layers=sum(device.startswith("cuda:") for device in layer_devices),
        cpu_layers_mode=(layout.mode or "compute") if split_layers else None,
        context_tokens=asked.work.context_tokens,
        images=asked.work.images,
        image_tokens=asked.work.image_tokens,
        offload_dir=asked.offload_dir if outcome.on_disk else None,
        int8_fp32_cpu_offload=layout.precision.quantized and bool(layout.gpus) and off_gpu,
        visible_gpus=tuple(sorted(int(device.removeprefix("cuda:")) for device in layout.gpus)),
        devices=outcome.devices,
        load_peak_ram_bytes=outcome.load_peak_ram,
        disk_needed_bytes=case.written_bytes(asked, layout) + outcome.written_bytes,
        expected=outcome.expected,
        reasons=(
            *explain(
                asked,
                chosen,
                others,
                llama.offers.why_not,
                source_bytes=model.weights_bytes,
                gpus_idle=idle,
            ),
            *asked.correction.reasons(outcome.devices, chosen.engine, layout.precision.name),
        ),
        alternatives=alternatives(chosen, others),
        compute_dtype=layout.precision.compute,
        quantized=quantizable(model.modules) if layout.precision.quantized else (),
        conversion=chosen.variant.conversion if chosen.variant is not None else None,
        companions=model.companions,
    )
