"""Makes the layouts that a policy allows: one GPU, several, GPU and RAM, RAM alone, RAM and disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from backends.conversion.types import Variant
from backends.hardware.types import Gpu
from backends.models.types import ModuleKind
from backends.placement import precision as precisions
from backends.placement import split, topology
from backends.placement.case import (
    CPU,
    DISK,
    ENGINE,
    Case,
    Layout,
    cuda,
    executing_share,
    load_transient,
)
from backends.placement.estimate import Load, kv_cache
from backends.placement.evaluate import Outcome, evaluate
from backends.placement.fill import around, can_start, filled
from backends.placement.precision import Precision
from backends.placement.types import CpuLayersMode, EngineName
from backends.presets import PlacementKind

_MODES: tuple[CpuLayersMode, ...] = ("compute", "stream")


# For each placement, those that make it pointless when they fit.
_BETTER: dict[PlacementKind, frozenset[PlacementKind]] = {
    "gpu": frozenset(),
    "gpus": frozenset({"gpu"}),
    "hybrid": frozenset({"gpu", "gpus"}),
    "cpu": frozenset(),
    "disk": frozenset({"gpu", "gpus", "hybrid", "cpu"}),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A judged layout and what made it: the policy's precision choice and placement.

    `fallback` marks what a policy for GPUs resorts to when no GPU helps. `variant` is what llama.cpp runs in
    the checkpoint's place (None: the model's own files).
    """

    choice: str
    kind: PlacementKind
    outcome: Outcome
    fallback: bool = False
    engine: EngineName = ENGINE
    variant: Variant | None = None


def candidates(case: Case, *, hopeful: bool = False) -> tuple[Candidate, ...]:
    """Judge the layouts that the policy and the person's settings allow, in the policy's order.

    A precision that fits in a better place is not judged in worse ones (all on GPUs, then GPU and RAM,
    then the disk). Policies that may overflow into RAM end there: with no usable GPU everything overflows.
    `hopeful` leaves out what can't fit by weights and cache alone, where nobody asks what is missing.
    """
    policy = case.policy
    found: list[Candidate] = []
    for choice in policy.precisions:
        fitting: set[PlacementKind] = set()
        for kind in policy.placements:
            if fitting & _BETTER[kind]:
                continue
            if hopeful and _too_heavy(case, choice, kind):
                continue
            judged = [Candidate(choice, kind, outcome) for outcome in _for_kind(case, choice, kind)]
            found += judged
            if any(candidate.outcome.fits for candidate in judged):
                fitting.add(kind)
    overflows = "hybrid" in policy.placements and "cpu" not in policy.placements
    if overflows and case.request.overrides.gpu_layers is None:
        found += _overflowing(case, found)
    return tuple(_worth_naming(found))


def _overflowing(case: Case, found: Sequence[Candidate]) -> Iterator[Candidate]:
    """What a policy for GPUs resorts to: no GPU at all, or one that holds no layer in its precisions.

    A mode that was set for layers in RAM is carried out where that fits.
    """
    fits = {candidate.kind for candidate in found if candidate.outcome.fits}
    if "hybrid" in fits and case.request.overrides.cpu_layers_mode is not None:
        return
    kinds: list[PlacementKind] = ["cpu"]
    if "disk" in case.policy.placements:
        kinds.append("disk")
    choice = case.policy.precisions[0]
    if case.request.overrides.precision is None:
        choice = "checkpoint"
        if case.gpus and not any(candidate.kind == "hybrid" for candidate in found):
            for outcome in _for_kind(case, choice, "hybrid"):
                yield Candidate(choice, "hybrid", outcome, fallback=True)
    without = replace(case, gpus=())
    for kind in kinds:
        if fits & _BETTER[kind] and kind == "disk":
            continue
        for outcome in _for_kind(without, choice, kind):
            if outcome.fits:
                fits.add(kind)
            yield Candidate(choice, kind, outcome, fallback=bool(case.gpus))


def _worth_naming(found: Sequence[Candidate]) -> Iterator[Candidate]:
    """Each layout once; a GPU that holds no layer only where that is sooner than the CPU alone."""
    seen: set[Layout] = set()
    alone = [one.outcome.expected.answer_s for one in found if one.kind == "cpu" and one.outcome.fits]
    for candidate in found:
        outcome = candidate.outcome
        if outcome.layout in seen:
            continue
        seen.add(outcome.layout)
        idle = candidate.kind == "hybrid" and outcome.layout.gpus and not outcome.layers_on_gpus
        if not (idle and alone and outcome.expected.answer_s >= min(alone)):
            yield candidate


def _able(case: Case, choice: str) -> Case:
    """The case without the GPUs that can't work in this precision."""
    able = tuple(gpu for gpu in case.gpus if precisions.too_old(choice, (gpu,)) is None)
    return case if able == case.gpus else replace(case, gpus=able)


def _for_kind(case: Case, choice: str, kind: PlacementKind) -> Iterator[Outcome]:
    case = _able(case, choice)
    match kind:
        case "gpu":
            yield from _single(case, choice)
        case "gpus":
            yield from _several(case, choice)
        case "hybrid":
            yield from _hybrid(case, choice, (CPU,))
        case "disk":
            yield from _disk(case, choice)
        case "cpu":
            # bitsandbytes runs on a CPU, far too slowly to be proposed: only on request.
            if choice not in ("int8", "nf4") or case.request.overrides.precision == choice:
                for precision in _cpu_precisions(case, choice):
                    yield evaluate(case, _whole(case, precision, CPU))


def _single(case: Case, choice: str) -> Iterator[Outcome]:
    """The first GPU, in rank order, that holds everything; when none does, the one that misses least."""
    best: Outcome | None = None
    for gpu in case.gpus:
        precision = precisions.on_gpus(choice, case.model.dtype, (gpu,))
        if best is not None and _hopeless(case, precision, (gpu,)):
            continue
        outcome = evaluate(case, _whole(case, precision, cuda(gpu)))
        if best is None or outcome.missing_bytes < best.missing_bytes:
            best = outcome
        if outcome.fits:
            break
    if best is not None:
        yield best


def _cpu_precisions(case: Case, choice: str) -> tuple[Precision, ...]:
    return precisions.on_cpu(choice, case.hardware.cpu, case.model.parameters)


def _whole(case: Case, precision: Precision, device: str) -> Layout:
    return Layout(precision, (device,) * len(case.model.modules))


def _several(case: Case, choice: str) -> Iterator[Outcome]:
    """The fewest GPUs that fit, taken in rank order; when none do, all of them (to say what is missing)."""
    for count in range(2, len(case.gpus) + 1):
        chosen = case.gpus[:count]
        precision = precisions.on_gpus(choice, case.model.dtype, chosen)
        in_ram = _room(case, precision, CPU)
        possible = _can_be_loaded(case, precision, in_ram) and not _hopeless(case, precision, chosen)
        if count < len(case.gpus) and not possible:
            continue
        outcome = evaluate(case, _balanced(case, precision, chosen))
        if not outcome.fits:
            # Proportional shares can miss by a layer where filling one GPU after the other does not.
            packed = evaluate(case, filled(case, precision, tuple(cuda(gpu) for gpu in chosen)))
            outcome = min(outcome, packed, key=lambda judged: judged.missing_bytes)
        if outcome.fits or count == len(case.gpus):
            yield outcome
            return


def _hopeless(case: Case, precision: Precision, gpus: Sequence[Gpu]) -> bool:
    """Whether weights and cache alone are more than these GPUs hold together."""
    return _least(case, precision) > sum(_room(case, precision, cuda(gpu)) for gpu in gpus)


def _can_be_loaded(case: Case, precision: Precision, in_ram: int) -> bool:
    """Whether RAM holds what loading takes for a moment, wherever the weights go."""
    return load_transient(case, precision) <= in_ram


def _least(case: Case, precision: Precision) -> int:
    """The least that weights and cache take, wherever they lie."""
    whole = Load()
    for module, count in zip(case.distinct, case.amounts, strict=True):
        nbytes = precision.module_bytes(module, quantize=True)
        whole.add(module, nbytes, precision, quantized=False, count=count)
    return whole.weights + kv_cache(case.model.text, whole, case.work, precision.width)


def _room(case: Case, precision: Precision, device: str, *, with_gpu: bool = True) -> int:
    """What a device has for weights and cache at most."""
    empty = executing_share(case, device, Load(), precision, with_gpu=with_gpu)
    return max(0, empty.budget_bytes - empty.total_bytes)


def _too_heavy(case: Case, choice: str, kind: PlacementKind) -> bool:
    """Whether no layout of this kind can fit: by weights and cache alone, or by what loading takes."""
    options: set[Precision] = set()
    if kind in ("cpu", "disk"):
        options.update(_cpu_precisions(case, choice))
    if kind != "cpu":
        # Cards of different generations compute in different precisions; a layout may have any of them.
        chosen = (case.gpus, *((one,) for one in case.gpus))
        options.update(precisions.on_gpus(choice, case.model.dtype, gpus) for gpus in chosen)
    return not any(_could_fit(case, precision, kind) for precision in options)


def _could_fit(case: Case, precision: Precision, kind: PlacementKind) -> bool:
    in_ram = _room(case, precision, CPU, with_gpu=kind not in ("cpu", "disk"))
    if not _can_be_loaded(case, precision, in_ram):
        return False
    if kind == "disk":
        return True
    least = _least(case, precision)
    if case.commit is not None and least > case.commit:
        return False
    room = [] if kind == "cpu" else [_room(case, precision, cuda(gpu)) for gpu in case.gpus]
    if kind == "gpu":
        room = [max(room, default=0)]
    return least <= sum(room) + (in_ram if kind in ("cpu", "hybrid") else 0)


def _balanced(case: Case, precision: Precision, gpus: Sequence[Gpu]) -> Layout:
    """Contiguous runs in proportion to what each GPU has left after everything but layers."""
    model = case.model
    layers = [module for module in model.modules if module.kind is ModuleKind.LAYER]
    tied = model.text.tied_embeddings
    room: list[int] = []
    for slot, gpu in enumerate(gpus):
        load = around(case, precision, cuda(gpu), first=slot == 0, last=slot == len(gpus) - 1)
        load.layers = 1  # one layer's activations are there whatever the number
        share = executing_share(case, cuda(gpu), load, precision, with_gpu=True)
        room.append(share.budget_bytes - share.total_bytes + share.kv_cache_bytes)
    size = sum(precision.module_bytes(layer, quantize=True) for layer in layers) // max(1, len(layers))
    counts = split.balanced_counts(size, len(layers), room)
    slots = split.counts_to_slots(model.modules, counts, head=len(gpus) - 1, tied=tied)
    return Layout(precision, tuple(cuda(gpus[slot]) for slot in slots))


def _hybrid(case: Case, choice: str, rest: tuple[str, ...]) -> Iterator[Outcome]:
    """As many layers as fit on the best GPU, or on the first few, and the rest in RAM (or RAM and disk)."""
    asked = case.request.overrides.cpu_layers_mode
    modes = (asked,) if asked else _MODES
    groups = _groups(case)
    for mode in modes:
        best: Outcome | None = None
        seen: set[Layout] = set()
        for gpus in groups:
            precision = precisions.on_gpus(choice, case.model.dtype, gpus)
            slots = (*(cuda(gpu) for gpu in gpus), *rest)
            if (best is not None or DISK in rest) and not can_start(case, precision, slots, mode):
                continue
            layout = filled(case, precision, slots, mode, case.request.overrides.gpu_layers)
            if layout in seen or (precision.quantized and not _has_layers_on_gpus(case, layout)):
                continue  # where nothing would be quantized, it is another precision's layout
            seen.add(layout)
            judged = evaluate(case, layout)
            if best is None or _better(judged, best):
                best = judged
        if best is not None:
            yield best


def _has_layers_on_gpus(case: Case, layout: Layout) -> bool:
    return any(
        module.kind is ModuleKind.LAYER and device.startswith("cuda:")
        for module, device in zip(case.model.modules, layout.devices, strict=True)
    )


def _groups(case: Case) -> list[tuple[Gpu, ...]]:
    """GPUs worth trying beside RAM: the best one, the roomiest one, all idle ones in either order, all.

    The first also holds the vision part, embeddings and whatever visits: a smaller one may do that better.
    """
    if not case.gpus:
        return []
    roomiest = max(case.gpus, key=lambda gpu: case.budgets[cuda(gpu)])
    idle = tuple(gpu for gpu in case.gpus if not topology.is_busy(gpu, case.credit))
    groups = ((case.gpus[0],), (roomiest,), idle, idle[::-1], case.gpus)
    return list(dict.fromkeys(group for group in groups if group))


def _better(one: Outcome, other: Outcome) -> bool:
    """Fitting first, then the time of an answer; more GPUs must take a tenth off it."""
    if one.fits != other.fits:
        return one.fits
    if not one.fits:
        return one.missing_bytes < other.missing_bytes
    return one.expected.answer_s * 1.1 < other.expected.answer_s


def _disk(case: Case, choice: str) -> Iterator[Outcome]:
    """RAM and disk, behind a GPU where one holds the model's first parts."""
    fits = False
    for outcome in _hybrid(case, choice, (CPU, DISK)):
        fits = fits or outcome.fits
        yield outcome
    if fits or choice in ("int8", "nf4"):
        return
    # The narrowest precision keeps most of the model in memory.
    precision = min(_cpu_precisions(case, choice), key=lambda option: option.width)
    yield evaluate(case, filled(case, precision, (CPU, DISK)))
