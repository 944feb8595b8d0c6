"""Judges a layout: what every device must hold, whether that fits, and how fast it will be."""

from __future__ import annotations

from dataclasses import dataclass

from backends.models.types import Module, ModuleKind
from backends.placement import budget, speed
from backends.placement.case import (
    CPU,
    DISK,
    EYES,
    Case,
    Layout,
    disk_share,
    executing_share,
    is_quantized,
    load_transient,
    loads,
    placed_bytes,
)
from backends.placement.estimate import kv_cache_per_layer
from backends.placement.pictures import encoded_alone, tiles_at_once
from backends.placement.types import DeviceShare, Expected, Verdict
from backends.presets import LONGEST_WAIT_S, READING_TOKENS_PER_S


@dataclass(frozen=True, slots=True)
class Outcome:
    """A judged layout. `missing_bytes` is by how much it overruns, over all devices; 0 when it fits.

    `layers_on_gpus` is how many decoder layers rest on GPUs.

    `refused` marks a layout that is shown as a measure although the preset does not allow it. `commit_needed`
    is what Windows must promise at the peak, and `page_file_bytes` the page file that takes with the RAM that
    is there; `with_more_ram` is (RAM, page file) of the least machine that would run it, where RAM lacks.
    `written_bytes` are those of files that a conversion makes first, for which the disk has `disk_budget`.
    """

    layout: Layout
    devices: tuple[DeviceShare, ...]
    load_peak_ram: int
    commit_needed: int
    missing_bytes: int
    expected: Expected
    commit_budget: int | None = None
    page_file_bytes: int = 0
    with_more_ram: tuple[int, int] | None = None
    refused: bool = False
    layers_on_gpus: int = 0
    written_bytes: int = 0
    disk_budget: int = 0

    @property
    def fits(self) -> bool:
        """Whether nothing is over its budget."""
        return self.missing_bytes == 0

    @property
    def on_disk(self) -> bool:
        """Whether weights are read from the disk while answering."""
        return DISK in self.layout.devices

    @property
    def verdict(self) -> Verdict:
        """`slow` is below reading speed, lets one wait for the first word, or reads from the disk."""
        if not self.fits:
            return "no"
        crawls = self.expected.tokens_per_s < READING_TOKENS_PER_S
        return "slow" if self.on_disk or crawls or self.expected.first_token_s > LONGEST_WAIT_S else "fits"


def evaluate(case: Case, layout: Layout) -> Outcome:
    """Judge `layout`."""
    shares = _shares(case, layout)
    ram = next(share for share in shares if share.device == CPU)
    peak = ram.overhead_bytes + ram.weights_bytes + load_transient(case, layout.precision)
    committed = committed_bytes(shares, peak)
    missing = sum(max(0, share.total_bytes - share.budget_bytes) for share in shares if share is not ram)
    # RAM that is missing while loading, while answering and in Windows' promise is the same RAM.
    unpromised = committed - case.commit if case.commit is not None else 0
    missing += max(0, max(peak, ram.total_bytes) - ram.budget_bytes, unpromised)
    return Outcome(
        layout=layout,
        devices=shares,
        load_peak_ram=peak,
        commit_needed=committed,
        missing_bytes=missing,
        expected=_expected(case, layout),
        commit_budget=case.commit,
        page_file_bytes=_page_file(case, committed, case.hardware.ram.total_bytes),
        with_more_ram=_with_more_ram(case, committed, max(peak, ram.total_bytes)),
        layers_on_gpus=sum(
            count
            for module, device, count in case.counted(layout)
            if module.kind is ModuleKind.LAYER and device.startswith("cuda:")
        ),
    )


def committed_bytes(shares: tuple[DeviceShare, ...], load_peak_ram: int) -> int:
    """What a process asks the system for at most, while answering or while loading.

    Windows backs memory of a GPU, too. Pages of weight files that are mapped are not asked for; Windows reads
    weights into memory of their own.
    """
    answering = sum(share.total_bytes for share in shares if share.device != DISK)
    gpus = [share for share in shares if share.device not in (CPU, DISK)]
    return max(answering, load_peak_ram + sum(share.weights_bytes + share.overhead_bytes for share in gpus))


def _page_file(case: Case, committed: int, total_ram: int) -> int:
    if case.commit is None:
        return 0
    return budget.page_file(committed, total_ram, budget.others_commit(case.hardware, case.credit))


def _with_more_ram(case: Case, committed: int, needed: int) -> tuple[int, int] | None:
    """RAM and page file for what needs more RAM than is there; None on systems without a commit limit."""
    if case.commit is None or needed <= case.budgets[CPU] or _has_limit(case):
        return None
    total = budget.sold_ram(needed, budget.others_ram(case.hardware, case.credit))
    return None if total is None else (total, _page_file(case, committed, total))


def _has_limit(case: Case) -> bool:
    return any(device == CPU for device, _ in case.request.overrides.max_memory)


def _shares(case: Case, layout: Layout) -> tuple[DeviceShare, ...]:
    with_gpu = bool(layout.gpus)
    found = loads(case, layout)
    shares = [
        executing_share(case, device, load, layout.precision, with_gpu=with_gpu)
        for device, load in found.items()
        if device != DISK
    ]
    if DISK in found:
        shares.append(disk_share(case, layout))
    return tuple(shares)


def _expected(case: Case, layout: Layout) -> Expected:
    parts = _parts(case, layout)
    width = layout.precision.width
    per_token = speed.decode_seconds(parts, case.model.text, case.work, width)
    first = speed.first_token_seconds(parts, case.model.text, case.model.vision, case.work, case.read_as)
    first += _bringing_eyes(case, layout)
    load = speed.load_seconds(
        case.hardware, case.model.weights_bytes, layout.precision, on_gpu=bool(layout.gpus)
    )
    return Expected.of(load, first, per_token)


def _bringing_eyes(case: Case, layout: Layout) -> float:
    """Seconds in which a vision part that rests elsewhere comes to where it runs, for a question's pictures.

    It comes whole for every pass that encodes: of each picture, or of each tile, where the engine encodes
    them one after the other. The words of a conversation never meet it.
    """
    vision, work, has_gpu = case.model.vision, case.work, bool(layout.gpus)
    streams = has_gpu and layout.mode == "stream"
    if vision is None or not work.images or not (streams or DISK in layout.devices):
        return 0.0
    streamed = on_disk = 0
    for module, device, count in case.counted(layout):
        if module.kind not in EYES:
            continue
        nbytes = placed_bytes(module, device, layout.precision, has_gpu=has_gpu)
        if device == DISK:
            on_disk += count * (min(nbytes, module.nbytes) or nbytes)  # as stored, converted after reading
        elif device == CPU and streams:
            streamed += count * nbytes
    passes, family = 1, case.model.family
    if encoded_alone(family):
        passes = work.images * vision.max_tiles // tiles_at_once(family, vision.max_tiles)
    rates = _rates(case, layout, layout.gpus[0] if has_gpu else CPU)
    return passes * (streamed / rates.link + on_disk / rates.disk)


def _parts(case: Case, layout: Layout) -> list[tuple[speed.Rates, speed.Work]]:
    """What each executing device does for one pass."""
    has_gpu, width = bool(layout.gpus), layout.precision.width
    found: dict[str, list[int]] = {}
    gpus = layout.gpus
    for module, device, count in case.counted(layout):
        from_ram = has_gpu and device == CPU and layout.mode == "stream"
        runner = device
        if from_ram or device == DISK:
            runner = gpus[0] if has_gpu else CPU
        sums = found.setdefault(runner, [0] * 8)
        nbytes = placed_bytes(module, device, layout.precision, has_gpu=has_gpu)
        if module.kind is ModuleKind.HEAD and module.parameters == 0:
            nbytes = case.model.text.vocab * case.model.text.hidden * layout.precision.width
        if module.kind is ModuleKind.EMBED and device == DISK and (has_gpu or _converts(case, layout)):
            sums[5] += count * module.nbytes  # read whole; without either, its rows are looked up in the file
        if module.kind in (ModuleKind.LAYER, ModuleKind.NORM, ModuleKind.HEAD):
            # A module that is moved is moved whole; in place, or mapped, only the experts visited are read.
            moved = from_ram or (device == DISK and (has_gpu or _converts(case, layout)))
            visited = _visited(module, nbytes)
            read = nbytes if moved else visited
            if device == DISK:
                sums[5] += count * (min(read, module.nbytes) or read)  # as stored, converted after reading
            elif from_ram:
                sums[4] += count * read
            # What has come is read once more, by the kernels.
            sums[0] += count * visited
            sums[6] += count * nbytes
        if module.kind is ModuleKind.LAYER:
            sums[1] += count
            sums[2] += count * module.active_parameters
            sums[7] += count * _half_full(case, module, width)
        if module.kind in EYES:
            sums[3] += count * module.parameters
    return [(_rates(case, layout, device), speed.Work(*sums)) for device, sums in found.items()]


def _visited(module: Module, nbytes: int) -> int:
    """Of the `nbytes` of a module those that one token reads: of a mixture's experts a few."""
    if not module.idle_parameters:
        return nbytes
    return nbytes * module.active_parameters // module.parameters


def _converts(case: Case, layout: Layout) -> bool:
    """Whether weights are used in another dtype than their files have."""
    return case.model.dtype != layout.precision.compute


def _half_full(case: Case, module: Module, width: int) -> int:
    """Bytes that a layer keeps of a conversation that is half-way."""
    tokens = speed.half_way(case.work)
    if module.cache is None:
        return kv_cache_per_layer(case.model.text, tokens, width)
    return module.cache.nbytes(tokens, case.work.images, width)


def _rates(case: Case, layout: Layout, device: str) -> speed.Rates:
    gpu, converts = case.gpu(device), _converts(case, layout)
    if gpu is not None:
        return speed.gpu_rates(gpu, case.hardware, layout.precision, converts=converts)
    quantized = is_quantized(device, layout.precision, has_gpu=bool(layout.gpus))
    return speed.cpu_rates(case.hardware, layout.precision, quantized=quantized, converts=converts)
