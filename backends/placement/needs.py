"""What would I need? The smallest change that runs a model here, and the smallest card at full precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from backends.conversion.types import Offers
from backends.hardware import builds
from backends.hardware.cards import Card, cards
from backends.hardware.types import HardwareSnapshot, Ram
from backends.models.types import ModelInfo, ModuleKind
from backends.placement import budget, need_words
from backends.placement.case import CPU
from backends.placement.converted import NO_OFFERS
from backends.placement.evaluate import committed_bytes
from backends.placement.planner import plan
from backends.placement.precision import quality
from backends.placement.types import Credit, Overrides, Plan, PlanRequest
from backends.presets import Preset
from backends.text import Text

_NO_CREDIT = Credit()
# Presets by how much they change; those of lower quality come first, because those ask for less.
_NEAREST: dict[Preset, tuple[Preset, ...]] = {
    Preset.HIGH: (Preset.MID, Preset.LOW, Preset.CPU, Preset.AUTO),
    Preset.MID: (Preset.LOW, Preset.CPU, Preset.HIGH, Preset.AUTO),
    Preset.LOW: (Preset.MID, Preset.CPU, Preset.HIGH, Preset.AUTO),
    Preset.CPU: (Preset.HIGH, Preset.MID, Preset.LOW, Preset.AUTO),
    Preset.AUTO: (Preset.LOW, Preset.CPU),
    Preset.CUSTOM: (Preset.AUTO, Preset.LOW, Preset.CPU),
}
# A question, a short answer, and the least that is worth calling a conversation.
_SPARE_TOKENS, _LEAST_CONTEXT, _ROUND_TO = 384, 512, 64
# How many cards one machine takes.
_COUNTS = (2, 4, 8)
# Where no machine holds it.
_MOST_RAM = 2048 * budget.GIB
_BOUNDLESS = 1 << 50
_Planner = Callable[[PlanRequest], Plan]


@dataclass(frozen=True, slots=True)
class CardNeed:
    """Cards that hold the whole model unquantized: `count` of the same kind."""

    name: str
    count: int
    bytes_each: int
    precision: str
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Needs:
    """The answer to "what would I need?".

    `runs` and `full_precision` say whether the request, and an unquantized model on the GPUs, fit this
    machine as it is. `change` is the nearest request that runs here (None: none does, or none is needed)
    and `change_plan` its plan. `card` holds the model at full precision, also where it already fits;
    `instead` are several gaming cards that do, where a single card would be a data centre's or none exists.
    `ram_bytes` is the RAM that a machine with `card` (or `instead`) must have installed, `page_file_bytes`
    Windows' page file beside it (0 elsewhere). `sentences` say all of it in words.
    """

    runs: bool
    full_precision: bool
    change: PlanRequest | None
    change_plan: Plan | None
    card: CardNeed | None
    instead: CardNeed | None
    ram_bytes: int
    page_file_bytes: int
    sentences: tuple[Text, ...]


def needs(
    hardware: HardwareSnapshot,
    model: ModelInfo,
    request: PlanRequest,
    *,
    credit: Credit = _NO_CREDIT,
    offload_root: str | None = None,
    offers: Offers = NO_OFFERS,
    llama_on_gpus: bool = False,
) -> Needs:
    """Find the smallest change and the smallest card. Raises what `planner.plan` raises for `request`.

    `offers` and `llama_on_gpus` are `planner.plan`'s, for what runs on this machine; cards to buy are judged
    by the model's own files.
    """
    hardware = builds.usable(hardware)

    def made(asked: PlanRequest) -> Plan:
        return plan(
            hardware,
            model,
            asked,
            credit=credit,
            offload_root=offload_root,
            offers=offers,
            llama_on_gpus=llama_on_gpus,
        )

    now = made(request)
    full = PlanRequest(request.model, Preset.HIGH, _work_only(request.overrides))
    full_here = made(full)
    nearest = _NEAREST[request.preset] if hardware.gpus else (Preset.CPU,)
    changed = None if now.verdict != "no" else _change(made, now, nearest)
    single = _smallest(hardware, model, full, (1,), cards())
    gaming = [card for card in cards() if card.price_class == 0]
    several = (
        _smallest(hardware, model, full, _COUNTS, gaming) if single is None or _is_costly(single) else None
    )
    found = single or several
    ram, page_file = _memory(hardware, found, credit) if found else (0, 0)
    return Needs(
        runs=now.verdict != "no",
        full_precision=full_here.verdict != "no",
        change=changed.request if changed else None,
        change_plan=changed,
        card=_card_need(single),
        instead=_card_need(several),
        ram_bytes=ram,
        page_file_bytes=page_file,
        sentences=(
            *_said_here(model, now, changed, full_here),
            *_said_cards(need_words.holding(model), _card_need(single), _card_need(several)),
            *(_said_memory(hardware, found, credit, ram, page_file) if found else ()),
        ),
    )


def _work_only(overrides: Overrides) -> Overrides:
    """What the person wants done, without how."""
    return Overrides(
        base=overrides.base,
        context_tokens=overrides.context_tokens,
        images=overrides.images,
        image_tokens=overrides.image_tokens,
    )


def _change(made: _Planner, now: Plan, nearest: Iterable[Preset]) -> Plan | None:
    """The nearest request that runs: without settings, with less context, then with other presets."""
    asked = now.request
    same = replace(asked, overrides=_work_only(asked.overrides))
    near = [] if same == asked else [made(same)]
    running = _first_running([*near, *_shortened(made, near[0] if near else now)])
    if running is not None:
        return running
    others = [made(replace(same, preset=preset)) for preset in nearest]
    running = _first_running(others)
    return running or _first_running(short for other in others for short in _shortened(made, other))


def _first_running(found: Iterable[Plan]) -> Plan | None:
    """The first at reading speed, else the first that runs at all."""
    running = [made for made in found if made.verdict != "no"]
    return next((made for made in running if made.verdict == "fits"), running[0] if running else None)


def _shortened(made: _Planner, plan_: Plan) -> Iterator[Plan]:
    """The same with the least context that still holds its pictures, a question and an answer."""
    least = max(_LEAST_CONTEXT, plan_.images * plan_.image_tokens + _SPARE_TOKENS)
    context = -(-least // _ROUND_TO) * _ROUND_TO
    if context < plan_.context_tokens:
        overrides = replace(plan_.request.overrides, context_tokens=context)
        yield made(replace(plan_.request, overrides=overrides))


def _smallest(
    hardware: HardwareSnapshot,
    model: ModelInfo,
    full: PlanRequest,
    counts: Iterable[int],
    choice: Iterable[Card],
) -> tuple[Card, Plan] | None:
    """The first card, in as few pieces as possible, on which `full` fits; RAM is no limit here."""
    ram = Ram(_BOUNDLESS, _BOUNDLESS, None, hardware.ram.memory_gbps)
    choice = tuple(choice)
    for count in counts:
        for card in choice:
            gpus = tuple(card.as_gpu(index) for index in range(count))
            if sum(gpu.free_bytes for gpu in gpus) < _least_bytes(model):
                continue
            made = plan(replace(hardware, gpus=gpus, ram=ram, assumed=()), model, full)
            if made.verdict != "no":
                return card, made
    return None


def _least_bytes(model: ModelInfo) -> int:
    """Bytes below which no cards hold the model as its file has it, or in half precision."""
    apart = sum(module.nbytes for module in model.modules if module.kind is ModuleKind.EMBED)
    if model.format == "gguf":
        return model.weights_bytes - apart  # the embedding stays in RAM
    return 2 * sum(module.parameters for module in model.modules)


def _is_costly(found: tuple[Card, Plan]) -> bool:
    return found[0].price_class > 0


def _card_need(found: tuple[Card, Plan] | None) -> CardNeed | None:
    if found is None:
        return None
    card, made = found
    size = int(card.facts.gib * budget.GIB)
    # Of the cards that were offered, those that the plan really uses.
    return CardNeed(card.name, len(made.visible_gpus), size, made.precision, made.expected.tokens_per_s)


def _ram_used(made: Plan) -> int:
    ram = next(share for share in made.devices if share.device == CPU)
    return max(ram.total_bytes, made.load_peak_ram_bytes)


def _memory(hardware: HardwareSnapshot, found: tuple[Card, Plan], credit: Credit) -> tuple[int, int]:
    """RAM to have installed and, on Windows, the page file beside it, for the plan of `found`."""
    made = found[1]
    others = budget.others_ram(hardware, credit)
    installed = budget.sold_ram(_ram_used(made), others) or _MOST_RAM
    if hardware.os != "windows":
        return installed, 0
    committed = committed_bytes(made.devices, made.load_peak_ram_bytes)
    promised = budget.others_commit(hardware, credit)
    return installed, budget.page_file(committed, max(installed, hardware.ram.total_bytes), promised)


def _said_here(model: ModelInfo, now: Plan, changed: Plan | None, full_here: Plan) -> Iterator[Text]:
    if now.verdict != "no":
        yield need_words.runs(now)
    elif changed is None:
        yield need_words.nothing_here()
    else:
        yield need_words.change(now, changed)
    other = model.format != "gguf" and now.request.preset is not Preset.HIGH and not _is_full(now)
    if full_here.verdict != "no" and other:
        yield need_words.full_here(full_here)


def _is_full(now: Plan) -> bool:
    """Whether `now` runs, unquantized and with nothing beside the GPUs: full precision is no news then."""
    on_gpus = all(device.startswith("cuda:") for _, device in now.device_map)
    return now.verdict != "no" and on_gpus and quality(now.precision) == 0


def _said_cards(holds: Text, single: CardNeed | None, several: CardNeed | None) -> Iterator[Text]:
    if single is not None:
        yield need_words.card(holds, single.name, single.bytes_each, single.tokens_per_s)
        if several is not None:
            yield need_words.cards_instead(several.count, several.name, several.tokens_per_s)
    elif several is not None:
        yield need_words.cards(holds, several.count, several.name, several.bytes_each, several.tokens_per_s)
    else:
        yield need_words.no_card(holds, max(_COUNTS))


def _said_memory(
    hardware: HardwareSnapshot, found: tuple[Card, Plan], credit: Credit, ram: int, page_file: int
) -> Iterator[Text]:
    used = _ram_used(found[1])
    if used <= budget.ram_budget(hardware, credit):
        yield need_words.ram_is_enough(used)
    else:
        yield need_words.ram(ram, hardware.ram.total_bytes)
    limit = hardware.ram.commit_limit_bytes
    if page_file and limit is not None and limit - hardware.ram.total_bytes < page_file:
        yield need_words.page_file(page_file)
