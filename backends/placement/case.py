"""One planning question with everything derived from it once: budgets, workload, sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter

from backends.conversion.types import Conversion
from backends.hardware.types import Gpu, HardwareSnapshot
from backends.models.types import ModelInfo, Module, ModuleKind
from backends.placement import budget, estimate
from backends.placement.correction import NEUTRAL, Correction
from backends.placement.estimate import Load, Workload
from backends.placement.precision import Precision
from backends.placement.types import CpuLayersMode, Credit, DeviceShare, EngineName, PlanRequest
from backends.presets import Policy

CPU, DISK = "cpu", "disk"
# What a system reads of a mapped file at least, and what is read of others at once (engines.reading).
_PAGE, _READ_BLOCK = 4096, 8 * 1024**2
# What encodes pictures.
EYES = (ModuleKind.VISION, ModuleKind.PROJECTOR)
# All that two modules have in common that are alike.
_alike = attrgetter(*(field.name for field in fields(Module) if field.name != "name"))
# The engine of safetensors models, and of GGUF files.
ENGINE: EngineName = "transformers"
GGUF_ENGINE: EngineName = "llamacpp"


def engine_of(model: ModelInfo) -> EngineName:
    """The engine that runs `model`."""
    return GGUF_ENGINE if model.format == "gguf" else ENGINE


def cuda(gpu: Gpu) -> str:
    """A GPU's device id: the driver's index."""
    return f"cuda:{gpu.index}"


@dataclass(frozen=True, slots=True)
class Case:
    """What candidates are made from. `gpus` are those the plan may use, best first.

    `budgets` maps device ids to bytes; `commit` is Windows' limit or None. `distinct` has one of each set of
    modules that are alike but for their names, `amounts` how many there are of each, and `places` which of
    them each module of the model is (`layer_places`: each layer): sums over modules are taken over these.
    `conversion` is what makes the model's files, which are not the checkpoint's then.
    """

    hardware: HardwareSnapshot
    model: ModelInfo
    request: PlanRequest
    policy: Policy
    credit: Credit
    gpus: tuple[Gpu, ...]
    budgets: dict[str, int]
    commit: int | None
    work: Workload
    offload_dir: str
    correction: Correction = NEUTRAL
    conversion: Conversion | None = None
    distinct: tuple[Module, ...] = field(init=False, repr=False, compare=False)
    amounts: tuple[int, ...] = field(init=False, repr=False, compare=False)
    places: tuple[int, ...] = field(init=False, repr=False, compare=False)
    read_as: str = field(init=False, repr=False, compare=False)
    layer_places: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _by_device: dict[str, Gpu] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        numbers: dict[object, int] = {}
        places = tuple(numbers.setdefault(_alike(module), len(numbers)) for module in self.model.modules)
        counted = Counter(places)
        firsts = dict(zip(reversed(places), reversed(self.model.modules), strict=True))
        found = [replace(firsts[place], name="") for place in range(len(numbers))]
        object.__setattr__(self, "distinct", tuple(found))
        object.__setattr__(self, "amounts", tuple(counted[place] for place in range(len(found))))
        object.__setattr__(self, "places", places)
        kinds = [module.kind for module in found]
        layers = tuple(place for place in places if kinds[place] is ModuleKind.LAYER)
        object.__setattr__(self, "layer_places", layers)
        object.__setattr__(self, "read_as", _read_as(self.model.family, tuple(found)))
        object.__setattr__(self, "_by_device", {cuda(gpu): gpu for gpu in self.gpus})

    @property
    def one_kind_of_layer(self) -> bool:
        """Whether all layers are alike."""
        return self.amounts[self.layer_places[0]] == len(self.layer_places)

    def counted(self, layout: Layout) -> Iterator[tuple[Module, str, int]]:
        """Modules that are alike and on one device, with their number; in execution order of the first."""
        for (place, device), count in Counter(zip(self.places, layout.devices, strict=True)).items():
            yield self.distinct[place], device, count

    @property
    def engine(self) -> EngineName:
        """The engine that runs the model: the format decides."""
        return engine_of(self.model)

    def gpu(self, device: str) -> Gpu | None:
        """Return the GPU with this id; None for the CPU and the disk."""
        return self._by_device.get(device)

    def name(self, device: str) -> str:
        """What a person calls the device."""
        gpu = self.gpu(device)
        if gpu is not None:
            return gpu.name
        return self.hardware.cpu.name if device == CPU else self.hardware.disk.path

    def process_bytes(self, *, with_gpu: bool) -> int:
        """RAM of the worker's process before it holds anything."""
        return estimate.CUDA_PROCESS_BYTES if with_gpu else estimate.CPU_PROCESS_BYTES


def _read_as(family: str, modules: tuple[Module, ...]) -> str:
    """The family by which the engine reads a prompt; none where a layer's cache can't be cut back."""
    for module in modules:
        cache = module.cache
        if cache and (cache.window or cache.picture_tokens or not cache.per_token):
            return ""
    return family


@dataclass(frozen=True, slots=True)
class Layout:
    """A way to load the model: which module where, in which precision.

    `devices` is parallel to the model's modules. `mode` says where layers in RAM or on the disk run when a
    GPU takes part: "stream" runs them on the first GPU.
    """

    precision: Precision
    devices: tuple[str, ...]
    mode: CpuLayersMode | None = None

    @property
    def gpus(self) -> tuple[str, ...]:
        """The GPUs that take part, in execution order."""
        return tuple(device for device in dict.fromkeys(self.devices) if device.startswith("cuda:"))


def is_quantized(device: str, precision: Precision, *, has_gpu: bool) -> bool:
    """Whether bitsandbytes quantizes what lies on `device`: beside a GPU, RAM and disk keep full width."""
    return precision.quantized and (device.startswith("cuda:") or not has_gpu)


def placed_bytes(module: Module, device: str, precision: Precision, *, has_gpu: bool) -> int:
    """Bytes of `module` at rest on `device`."""
    return precision.module_bytes(module, quantize=is_quantized(device, precision, has_gpu=has_gpu))


def loads(case: Case, layout: Layout) -> dict[str, Load]:
    """Sum up what lies and runs on each device of `layout`, in execution order; RAM is always there."""
    gpus = layout.gpus
    found: dict[str, Load] = {device: Load() for device in (*gpus, CPU)}
    streamer = gpus[0] if gpus else CPU
    for module, device, count in case.counted(layout):
        quantized = (
            is_quantized(device, layout.precision, has_gpu=bool(gpus)) and module.kind is ModuleKind.LAYER
        )
        nbytes = placed_bytes(module, device, layout.precision, has_gpu=bool(gpus))
        visits = device == DISK or (device == CPU and layout.mode == "stream" and bool(gpus))
        if not visits:
            here = found.setdefault(device, Load())
            here.add(module, nbytes, layout.precision, quantized=quantized, count=count)
            continue
        # It runs on the streaming device: cache and activations are there, its weights only for a moment.
        runner = found[streamer]
        runner.add(module, 0, layout.precision, quantized=False, count=count)
        runner.visiting = max(runner.visiting, nbytes)
        found.setdefault(device, Load()).weights += count * nbytes
        # A plan without pictures answers none (placement.pictures): its eyes are never read.
        if device == DISK and (case.work.images or module.kind not in EYES):
            reading = read_bytes(case, module, layout.precision, with_gpu=bool(gpus))
            found[CPU].reading = max(found[CPU].reading, reading)
    return found


def read_bytes(case: Case, module: Module, precision: Precision, *, with_gpu: bool) -> int:
    """RAM for reading `module` from the disk: all of it, or for a GPU its largest tensor, and what converts.

    A processor uses an embedding's rows and a mixture's experts from the file, mapped, a few at a time.
    """
    nbytes = (module.piece_parameters if with_gpu else module.parameters) * precision.width + _READ_BLOCK
    if case.model.dtype != precision.compute:
        return nbytes + module.nbytes * module.piece_parameters // max(1, module.parameters)
    if with_gpu:
        return nbytes
    if module.kind is ModuleKind.EMBED and not case.model.text.tied_embeddings:
        return min(nbytes, case.work.context_tokens * (case.model.text.hidden * precision.width + _PAGE))
    return module.active_parameters * precision.width + _READ_BLOCK


def executing_share(
    case: Case, device: str, load: Load, precision: Precision, *, with_gpu: bool
) -> DeviceShare:
    """Sum up a GPU or the CPU; `with_gpu` says whether a GPU takes part in the plan."""
    gpu = case.gpu(device)
    overhead = estimate.gpu_overhead(gpu) if gpu is not None else case.process_bytes(with_gpu=with_gpu)
    share = estimate.share(
        device,
        case.name(device),
        case.budgets[device],
        load,
        text=case.model.text,
        vision=case.model.vision,
        work=case.work,
        precision=precision,
        overhead=overhead,
        family=case.read_as,
        sees_as=case.model.family,
    )
    return case.correction.apply(share, ENGINE, precision.name, with_gpu=with_gpu)


def load_transient(case: Case, precision: Precision) -> int:
    """RAM that loading needs for a moment beside the weights in place.

    A tensor is a window into its mapped file, whose pages the system takes back whenever it needs them, and
    it is converted straight into its place: measured on Linux, anonymous memory while loading float32 from
    bfloat16 never passes what it is afterwards. bitsandbytes gets each piece as it is read and at full
    width first; a GPU gets what was converted to another half precision in RAM.
    """
    largest = max(module.piece_parameters for module in case.distinct) * precision.width
    if precision.quantized:
        reading = max(
            module.nbytes * module.piece_parameters // max(1, module.parameters) for module in case.distinct
        )
        return reading + largest
    return largest if precision.compute not in (case.model.dtype, "float32") else 0


def disk_share(case: Case, layout: Layout) -> DeviceShare:
    """Sum up the weights that stay on the disk.

    What is read from the checkpoint's own files needs no space: it counts as weights and as budget.
    """
    in_place = sum(
        module.nbytes * (module.parameters - module.converted_parameters) // max(1, module.parameters)
        for module in _on_disk(case, layout)
    )
    budget_bytes = case.budgets[DISK] + in_place
    weights = in_place + written_bytes(case, layout)
    return DeviceShare(DISK, case.name(DISK), budget_bytes, weights, 0, 0, 0, 0)


def written_bytes(case: Case, layout: Layout) -> int:
    """Bytes that loading writes to the offload folder, in the dtype that they are used in.

    Those are the weights that loading puts together anew, and those that a LoRA changes; all others are read
    where they lie, converted to their dtype each time.
    """
    written = sum(module.converted_parameters for module in _on_disk(case, layout))
    return written * layout.precision.width


def _on_disk(case: Case, layout: Layout) -> Iterator[Module]:
    return (
        module for module, device in zip(case.model.modules, layout.devices, strict=True) if device == DISK
    )


def budgets(
    hardware: HardwareSnapshot, gpus: tuple[Gpu, ...], credit: Credit, limits: dict[str, int]
) -> dict[str, int]:
    """What each device may hold, capped by what the person set."""
    free = {cuda(gpu): budget.gpu_budget(gpu, hardware, credit) for gpu in gpus}
    free[CPU] = budget.ram_budget(hardware, credit)
    free[DISK] = budget.disk_budget(hardware)
    return {device: min(nbytes, limits.get(device, nbytes)) for device, nbytes in free.items()}
