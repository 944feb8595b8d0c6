"""Says why a plan is as it is, and why the others were not taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from backends.hardware.notes import note
from backends.models.types import ModuleKind
from backends.placement import (
    cache_words,
    converted_reasons,
    converted_words,
    gguf_words,
    machine_words,
    precision_words,
    reasons,
    shortages,
    topology,
)
from backends.placement.candidates import Candidate
from backends.placement.case import CPU, DISK, Case, cuda, written_bytes
from backends.placement.converted import only_converted
from backends.placement.evaluate import Outcome
from backends.placement.labels import (
    device_label,
    parts_label,
    precision_label,
    rest_label,
    set_by_hand,
    settings_label,
)
from backends.placement.precision import has_bf16, is_tiny, too_old, without_bf16
from backends.placement.rejected import alone_on, missing, share_of
from backends.presets import LONGEST_WAIT_S, READING_TOKENS_PER_S, Preset
from backends.text import Text


def explain(
    case: Case,
    chosen: Candidate,
    others: Sequence[Candidate],
    why_not_llama: Text | None = None,
    *,
    source_bytes: int = 0,
    gpus_idle: bool = False,
) -> tuple[Text, ...]:
    """The reasons, most important first.

    `why_not_llama` is why llama.cpp can't run the model. `source_bytes` are those of a checkpoint's weights,
    before they are converted. `gpus_idle`: it runs it, and is not built for the
    GPUs that are there.
    """
    outcome = chosen.outcome
    found: list[Text] = []
    if outcome.fits:
        found += _placement(case, outcome, others, gpus_idle=gpus_idle)
    else:
        found += _shortage(case, outcome, gpus_idle=gpus_idle)
        better = next((other.outcome for other in others if other.outcome.fits), None)
        if better is not None:
            found.append(_would_run(better))
    found += dict.fromkeys(why for _, why in case.hardware.left_out)
    found += _busy(case)
    found += _too_old(case, chosen)
    if outcome.fits and chosen.variant is not None:
        found += converted_reasons.why(case, chosen, others, source_bytes)
    elif outcome.fits:
        if why_not_llama is not None and not outcome.layout.gpus and _minds(case):
            found.append(converted_words.cant(why_not_llama))
        found += _precision(case, outcome, others)
    if outcome.fits and outcome.expected.tokens_per_s < READING_TOKENS_PER_S:
        found.append(reasons.slow(outcome.expected.tokens_per_s, READING_TOKENS_PER_S))
    if outcome.fits and outcome.expected.first_token_s > LONGEST_WAIT_S:
        found.append(reasons.late(outcome.expected.first_token_s, LONGEST_WAIT_S))
    found += _context(case)
    if case.model.gguf is not None and not case.model.gguf.chat_template and case.conversion is None:
        found.append(gguf_words.no_template())
    found += _settings(case)
    found += _assumptions(case, outcome)
    return tuple(found)


def _would_run(better: Outcome) -> Text:
    label, speed = precision_label(better.layout.precision.name), better.expected.tokens_per_s
    alone = alone_on(better)
    if alone is None:
        return shortages.would_run(label, speed)
    device = device_label(alone.device, alone.name)
    return shortages.would_run_on(label, device, alone.total_bytes, alone.budget_bytes, speed)


def _placement(
    case: Case, outcome: Outcome, others: Sequence[Candidate], *, gpus_idle: bool
) -> Iterator[Text]:
    gpus = outcome.layout.gpus
    layers = [
        device
        for module, device in zip(case.model.modules, outcome.layout.devices, strict=True)
        if module.kind is ModuleKind.LAYER
    ]
    on_gpus = sum(device.startswith("cuda:") for device in layers)
    if case.model.adapter is not None:
        yield from _merged(case, outcome)
    if not gpus:
        if not gpus_idle or not only_converted(case.request):
            yield _why_cpu(case)
        if gpus_idle:
            yield note("hardware.llama_cpu")
    elif on_gpus == len(layers):
        yield from _all_layers(case, outcome)
    else:
        rest = rest_label(ram=CPU in layers, disk=DISK in layers)
        say = reasons.hybrid_by_hand if _placed_by_hand(case) else reasons.hybrid
        yield say(on_gpus, len(layers), _names(outcome, gpus), rest)
        yield from _mode(outcome, others)
    yield from _without_use(case, outcome)
    if not outcome.on_disk:
        return
    stored = share_of(outcome, DISK).weights_bytes
    if case.request.overrides.device_map is not None:
        yield reasons.disk_by_hand(stored)
    else:
        say_disk = reasons.disk_within_limits if _is_limited(case) else reasons.disk_layers
        yield say_disk(layers.count(DISK), stored)
    written = written_bytes(case, outcome.layout)
    yield reasons.disk_written(written, case.offload_dir) if written else reasons.disk_in_place()


def _all_layers(case: Case, outcome: Outcome) -> Iterator[Text]:
    """Every layer is on a GPU; other parts need not be."""
    gpus = outcome.layout.gpus
    placed = [
        (module.kind, device)
        for module, device in zip(case.model.modules, outcome.layout.devices, strict=True)
        if module.parameters
    ]
    away = [(kind, device) for kind, device in placed if device in (CPU, DISK)]
    if len(gpus) == 1:
        share = share_of(outcome, gpus[0])
        say = reasons.layers_on_gpu if away else reasons.one_gpu
        yield say(share.device, share.name, share.total_bytes, share.budget_bytes)
    elif case.request.overrides.device_map is not None:
        yield reasons.several_by_hand(_names(outcome, gpus))
    else:
        yield reasons.several_gpus(len(gpus), _names(outcome, gpus))
    for place in (CPU, DISK):
        kinds = [kind for kind, device in away if device == place]
        if kinds:
            yield reasons.parts_elsewhere(
                rest_label(ram=place == CPU, disk=place == DISK), parts_label(kinds)
            )


def _without_use(case: Case, outcome: Outcome) -> Iterator[Text]:
    """Settings that change nothing in this plan."""
    mode = case.request.overrides.cpu_layers_mode
    if mode is not None and not outcome.layout.gpus:
        yield reasons.mode_without_gpu(mode)
    elif mode is not None and outcome.layers_on_gpus == case.model.layers:
        yield reasons.mode_without_use(mode)
    for device, _ in case.request.overrides.max_memory:
        if device not in case.budgets:
            yield reasons.limit_without_use(device)
        elif device not in (CPU, DISK, *outcome.layout.gpus):
            yield reasons.limit_not_met(device)


def _is_limited(case: Case) -> bool:
    """Whether a limit that the person set, and not the memory itself, is what is full."""
    limits = case.request.overrides.max_memory
    return any(device != DISK and case.budgets.get(device) == nbytes for device, nbytes in limits)


def _merged(case: Case, outcome: Outcome) -> Iterator[Text]:
    adapter = case.model.adapter
    assert adapter is not None
    weights = sum(share.weights_bytes for share in outcome.devices)
    cache = sum(share.kv_cache_bytes for share in outcome.devices)
    yield reasons.lora_merged(adapter.name, adapter.rank, weights, cache)
    if not outcome.layout.precision.quantized and outcome.layout.precision.width == 2:
        yield reasons.lora_wide(case.model.parameters * 4)


def _placed_by_hand(case: Case) -> bool:
    overrides = case.request.overrides
    return overrides.device_map is not None or overrides.gpu_layers is not None


def _names(outcome: Outcome, gpus: Sequence[str]) -> str:
    """`cuda:0 (NVIDIA GeForce RTX 3090), cuda:1 (...)`."""
    return ", ".join(f"{device} ({share_of(outcome, device).name})" for device in gpus)


def _why_cpu(case: Case) -> Text:
    if case.request.preset is Preset.CPU:
        return reasons.cpu_preset()
    if _placed_by_hand(case):
        return reasons.cpu_by_hand()
    choice = case.request.overrides.precision or ""
    if case.gpus and all(too_old(choice, (gpu,)) for gpu in case.gpus):
        return precision_words.gpu_too_old(choice, case.gpus[0])
    if case.hardware.gpus:
        return reasons.cpu_chosen()
    if case.request.preset in (Preset.MID, Preset.LOW):
        return reasons.preset_needs_gpu(case.request.preset.value)
    return reasons.no_gpu()


def _mode(outcome: Outcome, others: Sequence[Candidate]) -> Iterator[Text]:
    """Compares computing on the CPU with streaming to the GPU where both were judged."""
    layout = outcome.layout
    twin = next(
        (
            other.outcome
            for other in others
            if other.outcome.layout.precision == layout.precision
            and other.outcome.on_disk == outcome.on_disk
            and other.outcome.layout.mode not in (None, layout.mode)
        ),
        None,
    )
    if twin is None:
        return
    mine, its = outcome.expected.tokens_per_s, twin.expected.tokens_per_s
    if not twin.fits:
        yield reasons.compute_only(mine, its) if layout.mode == "compute" else reasons.stream_only(its, mine)
        return
    yield reasons.compute_mode(mine, its) if layout.mode == "compute" else reasons.stream_mode(its, mine)
    yield reasons.mode_answer(outcome.expected, twin.expected)


def _shortage(case: Case, outcome: Outcome, *, gpus_idle: bool) -> Iterator[Text]:
    yield shortages.no_room_anywhere(case.request.preset.value)
    if outcome.refused:
        preset = case.request.preset.value
        if gpus_idle:
            yield shortages.gpu_preset(preset)
            yield note("hardware.llama_cpu")
        else:
            yield shortages.gpu_only(preset)
        return
    if gpus_idle:
        yield note("hardware.llama_cpu")
    yield from missing(outcome)


def _busy(case: Case) -> Iterator[Text]:
    busy = [gpu for gpu in case.gpus if topology.is_busy(gpu, case.credit)]
    for gpu in sorted(busy, key=lambda gpu: gpu.index):
        held = topology.held_by_others(gpu, case.credit)
        process = topology.culprit(gpu)
        if process is None:
            yield machine_words.gpu_busy_unknown(gpu.index, gpu.name, held)
        elif process.bytes == 0:  # Windows' driver names processes but not their bytes
            yield machine_words.gpu_busy_together(gpu.index, gpu.name, held, process.name, process.pid)
        else:
            yield machine_words.gpu_busy(gpu.index, gpu.name, process.bytes, process.name, process.pid)
    if busy and len(busy) < len(case.gpus):
        yield machine_words.busy_last()


def _too_old(case: Case, chosen: Candidate) -> Iterator[Text]:
    """Precisions that come before the chosen one and that a GPU can't work in."""
    if case.model.gguf is not None:
        return
    for choice in case.policy.precisions:
        if choice == chosen.choice and chosen.outcome.fits:
            return
        gpu = too_old(choice, case.gpus)
        if gpu is not None:
            yield precision_words.gpu_too_old(choice, gpu)


def _precision(case: Case, outcome: Outcome, others: Sequence[Candidate]) -> Iterator[Text]:
    layout = outcome.layout
    name = layout.precision.name
    label = precision_label(name)
    if case.model.gguf is not None:
        yield gguf_words.precision(label)
        if layout.mode == "compute":
            yield gguf_words.rest_computes()
        return
    if layout.precision.quantized and layout.gpus:
        full = sum(module.parameters for module in case.model.modules) * layout.precision.width
        stored = sum(share.weights_bytes for share in outcome.devices)
        if outcome.layers_on_gpus:
            yield precision_words.quantized(label, max(0, full - stored))
        if any(device in (CPU, DISK) for device in layout.devices):
            yield precision_words.cpu_full_width("bf16" if layout.precision.compute == "bfloat16" else "fp16")
    elif layout.gpus:
        yield from _full_width(case, outcome)
    elif layout.precision.quantized:
        yield precision_words.cpu_quantized(label)
    elif case.request.overrides.precision is None:
        yield from _cpu_precision(case, outcome, others)


def _minds(case: Case) -> bool:
    """Whether llama.cpp would have been tried: of tiny models, in one preset only."""
    overrides = case.request.overrides
    free = overrides.precision is None and overrides.engine is None and overrides.device_map is None
    return free and (case.request.preset is Preset.CPU or not is_tiny(case.model.parameters))


def _full_width(case: Case, outcome: Outcome) -> Iterator[Text]:
    layout, wanted = outcome.layout, case.request.overrides.precision or case.model.dtype
    if layout.precision.name != "fp32":
        yield precision_words.checkpoint_precision(layout.precision.name)
    lacking = without_bf16(gpu for gpu in case.gpus if cuda(gpu) in layout.gpus)
    if layout.precision.name == "fp16" and wanted in ("bf16", "bfloat16") and lacking is not None:
        yield precision_words.fp16_for_bf16(lacking)


def _cpu_precision(case: Case, outcome: Outcome, others: Sequence[Candidate]) -> Iterator[Text]:
    cpu = case.hardware.cpu
    if outcome.layout.precision.name == "bf16":
        if has_bf16(cpu) and not is_tiny(case.model.parameters):
            yield precision_words.cpu_bf16(cpu.name)
        else:
            wide = [other.outcome for other in others if other.outcome.layout.precision.name == "fp32"]
            shares = [share_of(other, CPU) for other in wide if not other.layout.gpus and not other.fits]
            if shares:
                yield precision_words.cpu_bf16_no_room(shares[0].total_bytes, shares[0].budget_bytes)
    elif is_tiny(case.model.parameters):
        yield precision_words.cpu_fp32_small()
    elif not has_bf16(cpu):
        yield precision_words.cpu_fp32(cpu.name)


def _context(case: Case) -> Iterator[Text]:
    yield from _room(case)
    yield from cache_words.kept(case.model, case.work)


def _room(case: Case) -> Iterator[Text]:
    work, vision = case.work, case.model.vision
    if vision is None:
        yield reasons.text_context(work.context_tokens)
        if case.model.gguf is not None and case.conversion is None:
            yield gguf_words.no_mmproj()
        return
    if work.images == 0:
        yield reasons.no_pictures(work.context_tokens)
        return
    yield reasons.pictures(work.images, work.image_tokens, work.context_tokens)
    if vision.dynamic and work.image_tokens < vision.tokens_per_image:
        yield reasons.picture_scaled(work.image_tokens, vision.tokens_per_image)


def _settings(case: Case) -> Iterator[Text]:
    chosen = set_by_hand(case.request.overrides)
    if chosen:
        yield reasons.by_hand(settings_label(chosen))


def _assumptions(case: Case, outcome: Outcome) -> Iterator[Text]:
    """Figures that the expected speed rests on although nobody measured them."""
    hardware = case.hardware
    used = {cuda(gpu): position for position, gpu in enumerate(hardware.gpus)}
    prefixes = (*(f"gpus[{used[device]}]." for device in outcome.layout.gpus), "ram.", "cpu.", "disk.")
    figures = [name for name in hardware.assumed if name.startswith(prefixes)]
    figures += [
        name
        for name, value in (
            ("ram.memory_gbps", hardware.ram.memory_gbps),
            ("cpu.gflops_fp32", hardware.cpu.gflops_fp32),
            ("disk.read_gbps", hardware.disk.read_gbps),
        )
        if value is None and name not in figures
    ]
    if figures:
        yield machine_words.assumed(figures)
    if not case.model.weights_present:
        yield reasons.headers_only()
