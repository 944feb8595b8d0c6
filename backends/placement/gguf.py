"""Layouts of a GGUF model under llama.cpp, judged: what it can place, and how much of it fits.

llama.cpp keeps the embedding in RAM, the head with the last layers, and gives a GPU the *last* layers: the
first ones compute on the CPU. The picture part lies on one device as a whole. Nothing is quantized on the
way, and the disk is no place: a file that is larger than the memory is read again and again.

A plan's map says all that the engine is to be told: `n_gpu_layers` is the number of layers on GPUs and one
for the head, `tensor_split` how many of these each GPU has, and the picture part lies where `mmproj` is.
Plans count on flash attention as llama.cpp chooses it, a 16-bit cache without `swa_full`, and 512 rows a
pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from backends.hardware.types import Gpu
from backends.models.types import Module, ModuleKind
from backends.placement import split, topology
from backends.placement.budget import MIB
from backends.placement.candidates import Candidate
from backends.placement.case import CPU, DISK, GGUF_ENGINE, Case, Layout, cuda
from backends.placement.evaluate import Outcome
from backends.placement.gguf_memory import Held, share
from backends.placement.gguf_speed import expected
from backends.placement.precision import Precision
from backends.placement.types import CpuLayersMode, DeviceShare
from backends.presets import PlacementKind

# Kinds that make another pointless when they fit.
_BETTER: dict[PlacementKind, frozenset[PlacementKind]] = {
    "gpus": frozenset({"gpu"}),
    "hybrid": frozenset({"gpu", "gpus"}),
}
_CHOICE = "checkpoint"
_EYES = (ModuleKind.VISION, ModuleKind.PROJECTOR)
# A process that converts a checkpoint of any size: Python, its libraries, the chunks between reading and
# writing. The converter's tests hold it below that.
CONVERTING_BYTES = 400 * MIB
# The worker and a process that compares layouts, beside the picture part, which transformers reads as 4 bytes
# a parameter: 560 MB for a tiny one, 1.8 GB for one of 0.3 B parameters with its projector.
COMPARING_BYTES, _COMPARED_WIDTH = 600 * MIB, 4


def candidates(case: Case) -> tuple[Candidate, ...]:
    """Judge the layouts that the policy and the person's settings allow, in the policy's order.

    Policies that may overflow into RAM end there, as they do for other models.
    """
    allowed = case.policy.placements
    found: list[Candidate] = []
    fitting: set[PlacementKind] = set()
    for kind in allowed:
        if fitting & _BETTER.get(kind, frozenset()):
            continue
        for outcome in _for_kind(case, kind):
            found.append(Candidate(_CHOICE, kind, outcome, engine=GGUF_ENGINE))
            if outcome.fits:
                fitting.add(kind)
    if "hybrid" in allowed and "cpu" not in allowed and case.request.overrides.gpu_layers is None:
        resort = in_ram(case)
        found.append(Candidate(_CHOICE, "cpu", resort, fallback=bool(case.gpus), engine=GGUF_ENGINE))
    return tuple(found)


def in_ram(case: Case) -> Outcome:
    """Everything on the CPU."""
    return judge(case, _layout(case, (), (), pictures=CPU))


def judge(case: Case, layout: Layout) -> Outcome:
    """Judge `layout`: what every device must hold, whether that fits, and how fast it will be."""
    held = _held(case, layout)
    with_gpu = bool(layout.gpus)
    shares = tuple(
        share(case, device, part, layout.precision, with_gpu=with_gpu) for device, part in held.items()
    )
    ram = next(one for one in shares if one.device == CPU)
    committed = sum(one.total_bytes for one in shares)
    unpromised = committed - case.commit if case.commit is not None else 0
    missing = sum(max(0, one.total_bytes - one.budget_bytes) for one in shares if one is not ram)
    # The file is mapped: what goes on to a GPU leaves no copy behind that the system could not take back.
    peak = ram.overhead_bytes + ram.weights_bytes + ram.kv_cache_bytes
    written = 0
    if case.conversion is not None and not case.conversion.ready:
        written = case.conversion.nbytes
        peak = max(peak, _making_bytes(case))  # the model is loaded after that
    missing += max(0, max(peak, ram.total_bytes) - ram.budget_bytes, unpromised)
    missing += max(0, written - case.budgets[DISK])
    limit = case.hardware.ram.commit_limit_bytes
    return Outcome(
        layout=layout,
        devices=shares,
        load_peak_ram=peak,
        commit_needed=committed,
        missing_bytes=missing,
        expected=expected(case, held),
        commit_budget=case.commit,
        page_file_bytes=max(0, limit - case.hardware.ram.total_bytes) if limit is not None else 0,
        written_bytes=written,
        disk_budget=case.budgets[DISK],
    )


def _making_bytes(case: Case) -> int:
    """RAM for making the files of a conversion, and for comparing layouts where nobody has yet."""
    conversion = case.conversion
    if conversion is None or not conversion.compares:
        return CONVERTING_BYTES
    eyes = (module for module in case.model.modules if module.kind in _EYES)
    return COMPARING_BYTES + _COMPARED_WIDTH * sum(module.parameters for module in eyes)


def _held(case: Case, layout: Layout) -> dict[str, Held]:
    """Modules by device; RAM is always there. Matrices in RAM visit the first GPU to read a prompt."""
    parts: dict[str, list[Module]] = {device: [] for device in (*layout.gpus, CPU)}
    for module, device in zip(case.model.modules, layout.devices, strict=True):
        parts[device].append(module)
    away = any(module.kind is ModuleKind.LAYER for module in parts[CPU])
    largest = case.model.gguf.largest_matrix_bytes if case.model.gguf is not None else 0
    first = next(iter(layout.gpus), None)
    return {
        device: Held(tuple(modules), largest if away and device == first else 0, len(layout.gpus) > 1)
        for device, modules in parts.items()
    }


def _layout(case: Case, gpus: Sequence[str], counts: Sequence[int], *, pictures: str) -> Layout:
    """The last layers on `gpus`, as many on each as `counts` says; the head goes with the last of them."""
    layers = case.model.layers
    ends = list(accumulate(counts, initial=layers - sum(counts)))[1:]
    devices: list[str] = []
    index = 0
    for module in case.model.modules:
        match module.kind:
            case ModuleKind.VISION | ModuleKind.PROJECTOR:
                devices.append(pictures)
            case ModuleKind.NORM | ModuleKind.HEAD:
                devices.append(gpus[-1] if gpus else CPU)
            case ModuleKind.LAYER:
                away = index < layers - sum(counts)
                here = CPU if away else next(gpu for gpu, end in zip(gpus, ends, strict=True) if index < end)
                devices.append(here)
                index += 1
            case _:
                devices.append(CPU)
    mode: CpuLayersMode | None = "compute" if gpus and sum(counts) < layers else None
    return Layout(Precision(case.model.dtype, "float16"), tuple(devices), mode)


def _for_kind(case: Case, kind: PlacementKind) -> Iterator[Outcome]:
    match kind:
        case "gpu":
            yield from _single(case)
        case "gpus":
            yield from _several(case)
        case "hybrid":
            yield from _hybrid(case)
        case "cpu":
            yield in_ram(case)


def _single(case: Case) -> Iterator[Outcome]:
    """The first GPU, in rank order, that holds everything; when none does, the one that misses least."""
    judged = (_whole(case, (cuda(gpu),), (case.model.layers,)) for gpu in case.gpus)
    best: Outcome | None = None
    for outcome in judged:
        if best is None or outcome.missing_bytes < best.missing_bytes:
            best = outcome
        if outcome.fits:
            break
    if best is not None:
        yield best


def _whole(case: Case, gpus: tuple[str, ...], counts: Sequence[int]) -> Outcome:
    return judge(case, _layout(case, gpus, counts, pictures=gpus[0]))


def _several(case: Case) -> Iterator[Outcome]:
    """The fewest GPUs that fit, in rank order; when none do, all of them (to say what is missing)."""
    layers = case.model.layers
    for count in range(2, len(case.gpus) + 1):
        gpus = tuple(cuda(gpu) for gpu in case.gpus[:count])
        outcome = _whole(case, gpus, split.balanced_counts(1, layers, _room(case, gpus)))
        if not outcome.fits:
            # Proportional shares can miss by a layer where filling one GPU after the other does not.
            packed = _packed(case, gpus, pictures=gpus[0])
            full = [packed[0] + layers - sum(packed), *packed[1:]]
            outcome = min(outcome, _whole(case, gpus, full), key=lambda judged: judged.missing_bytes)
        if outcome.fits or count == len(case.gpus):
            yield outcome
            return


def _room(case: Case, gpus: Sequence[str]) -> list[int]:
    """What each GPU has left for layers and their caches."""
    empty = _layout(case, gpus, [0] * len(gpus), pictures=gpus[0])
    return [_left(case, gpu, Held(tuple(_on(case, empty, gpu)), piped=True)) for gpu in gpus]


def _on(case: Case, layout: Layout, device: str) -> list[Module]:
    placed = zip(case.model.modules, layout.devices, strict=True)
    return [module for module, where in placed if where == device]


def _left(case: Case, device: str, held: Held) -> int:
    found: DeviceShare = share(case, device, held, Precision(case.model.dtype, "float16"), with_gpu=True)
    return found.budget_bytes - found.total_bytes


def _packed(case: Case, gpus: Sequence[str], *, pictures: str) -> list[int]:
    """As many of the last layers as fit, the last GPU filled first."""
    layers = [module for module in case.model.modules if module.kind is ModuleKind.LAYER]
    empty = _layout(case, gpus, [0] * len(gpus), pictures=pictures)
    largest = case.model.gguf.largest_matrix_bytes if case.model.gguf is not None else 0
    counts = [0] * len(gpus)
    for slot in reversed(range(len(gpus))):
        fixed = _on(case, empty, gpus[slot])
        while layers:
            here = layers[len(layers) - counts[slot] - 1 :] if counts[slot] < len(layers) else []
            # Nothing visits a model that lies on GPUs as a whole.
            visits = slot == 0 and len(here) < len(layers)
            trial = Held((*fixed, *here), largest if visits else 0, len(gpus) > 1)
            if not here or _left(case, gpus[slot], trial) < 0:
                break
            counts[slot] += 1
        layers = layers[: len(layers) - counts[slot]]
    return counts


def _hybrid(case: Case) -> Iterator[Outcome]:
    """As many layers as fit on the best GPU, or on all idle ones, and the rest computing in RAM."""
    asked = case.request.overrides.gpu_layers
    best: Outcome | None = None
    for group in _groups(case):
        gpus = tuple(cuda(gpu) for gpu in group)
        outcome: Outcome | None = None
        for pictures in (gpus[0], CPU) if case.model.vision is not None else (gpus[0],):
            counts = _packed(case, gpus, pictures=pictures)
            if asked is not None:
                counts = _exactly(asked, counts)
            if sum(counts) == 0:
                continue
            outcome = judge(case, _layout(case, gpus, counts, pictures=pictures))
            if outcome.fits:
                break
        if outcome is not None and (best is None or _better(outcome, best)):
            best = outcome
    if best is not None:
        yield best


def _exactly(asked: int, counts: list[int]) -> list[int]:
    """`asked` layers, whether they fit or not: what is too many for the others goes to the first GPU."""
    found = [0] * len(counts)
    for slot in reversed(range(1, len(counts))):
        found[slot] = min(counts[slot], asked - sum(found))
    found[0] = asked - sum(found)
    return found


def _groups(case: Case) -> list[tuple[Gpu, ...]]:
    """GPUs worth trying beside RAM: the best one, the roomiest one, all idle ones, all."""
    if not case.gpus:
        return []
    roomiest = max(case.gpus, key=lambda gpu: case.budgets[cuda(gpu)])
    idle = tuple(gpu for gpu in case.gpus if not topology.is_busy(gpu, case.credit))
    groups = ((case.gpus[0],), (roomiest,), idle, case.gpus)
    return list(dict.fromkeys(group for group in groups if group))


def _better(one: Outcome, other: Outcome) -> bool:
    """Fitting first, then the time of an answer; more GPUs must take a tenth off it."""
    if one.fits != other.fits:
        return one.fits
    if not one.fits:
        return one.missing_bytes < other.missing_bytes
    return one.expected.answer_s * 1.1 < other.expected.answer_s
