"""Which conversions of a checkpoint a request may use, and their layouts under llama.cpp. Pure.

The CPU preset always takes llama.cpp where it can: in 8 bits, in 4 where memory or disk has no room for them.
Other presets judge it beside transformers by their own rules. Where a GPU is there and llama.cpp is not built
for it, only its layouts in RAM count, and only in presets that choose freely.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from backends.conversion.types import Offers, Variant
from backends.errors import SettingInvalid
from backends.hardware.types import Cpu
from backends.models.types import ModelInfo
from backends.placement import converted_words as words
from backends.placement import gguf, gguf_checks
from backends.placement.candidates import Candidate
from backends.placement.case import CPU, GGUF_ENGINE, Case
from backends.placement.evaluate import Outcome
from backends.placement.precision import is_tiny
from backends.placement.types import PlanRequest
from backends.presets import Preset, policy
from backends.text import Text

NO_OFFERS = Offers()
# What the conversions are called, by what a preset's precision stands for.
_KINDS = {"checkpoint": "f16", "int8": "q8_0", "nf4": "q4_0"}
# The CPU preset's, the preferred one first.
_CPU_KINDS = ("q8_0", "q4_0")
PRECISIONS = ("f16", "q8_0", "q4_0")
# The published builds for x86 are compiled for AVX2; what has one of these has that, or is no x86.
_ENOUGH = frozenset({"avx2", "avx512f", "avx512_bf16", "amx_bf16", "neon", "sve"})


def offered(found: Offers, cpu: Cpu) -> Offers:
    """What is left of `found` on this processor; one whose instruction sets are not known is able."""
    if found.variants and cpu.features and _ENOUGH.isdisjoint(cpu.features):
        return Offers(why_not=words.no_avx2(cpu.name))
    return found


def within(found: Offers, context_tokens: int) -> Offers:
    """What is left of `found` for a context of this length: a window that slides is no longer than itself."""
    most = longest(found)
    if most is not None and most < context_tokens:
        return Offers(why_not=words.short_context(most))
    return found


def longest(found: Offers) -> int | None:
    """The longest context that llama.cpp reads; None where nothing can be converted."""
    return max((variant.model.text.max_context for variant in found.variants), default=None)


def check(model: ModelInfo, request: PlanRequest, found: Offers) -> None:
    """Raise SettingInvalid for settings that ask for llama.cpp where it can't be, or can't take them."""
    overrides = request.overrides
    precision, asked = overrides.precision, overrides.engine
    if precision in PRECISIONS:
        if asked == "transformers":
            raise _invalid("precision", precision, words.only_llamacpp(precision), words.other_precision())
        if not found.variants:
            raise _invalid("precision", precision, _why_not(model, found), words.other_precision())
    elif asked != GGUF_ENGINE:
        return
    elif not found.variants:
        raise _invalid("engine", asked, _why_not(model, found), words.use_transformers())
    elif precision is not None:
        raise _invalid("precision", precision, words.only_transformers(precision), words.kinds(PRECISIONS))
    context = overrides.context_tokens
    if context is not None and (why := within(found, context).why_not) is not None:
        raise _invalid("context", str(context), why, words.shorter_context())
    gguf_checks.check_rest(overrides)


def too_short(request: PlanRequest, most: int) -> SettingInvalid:
    """The error about settings that leave llama.cpp only, which has no room for the pictures."""
    name = "precision" if request.overrides.precision in PRECISIONS else "engine"
    value = request.overrides.precision if name == "precision" else request.overrides.engine
    return _invalid(name, str(value), words.short_context(most), words.use_transformers())


def _why_not(model: ModelInfo, found: Offers) -> Text:
    return found.why_not or words.not_offered(model.family)


def _invalid(name: str, value: str, detail: Text, suggestion: Text) -> SettingInvalid:
    return SettingInvalid(name=name, value=value, detail=detail, suggestion=suggestion)


def only_converted(request: PlanRequest) -> bool:
    """Whether the person's settings leave no other engine."""
    return request.overrides.engine == GGUF_ENGINE or request.overrides.precision in PRECISIONS


def candidates(asked: Case, found: Offers, *, on_gpus: bool) -> list[Candidate]:
    """The layouts of the conversions that `asked` may use, in its order of preference.

    `on_gpus`: the installed llama.cpp computes on GPUs.
    """
    judged: list[Candidate] = []
    for variant in _wanted(asked, found, on_gpus=on_gpus):
        case = case_of(asked, variant, on_gpus=on_gpus)
        for one in gguf.candidates(case):
            resort = one.kind == CPU and CPU not in asked.policy.placements and bool(asked.gpus)
            judged.append(replace(one, choice=variant.model.dtype, fallback=resort, variant=variant))
    return judged


def merged(others: Iterable[Candidate], ours: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """All candidates in order: transformers' on GPUs, then llama.cpp's, then those that answer in RAM."""
    others = list(others)
    first = [one for one in others if one.outcome.layout.gpus]
    return (*first, *ours, *(one for one in others if not one.outcome.layout.gpus))


def in_ram(asked: Case, found: Offers) -> tuple[Variant, Outcome] | None:
    """The preferred conversion on the CPU, as a measure where nothing is allowed."""
    variant = next(_wanted(asked, found, on_gpus=False), None)
    return None if variant is None else (variant, gguf.in_ram(case_of(asked, variant, on_gpus=False)))


def case_of(asked: Case, variant: Variant, *, on_gpus: bool) -> Case:
    """The same question about a conversion."""
    streams = asked.request.overrides.cpu_layers_mode == "stream"
    gpus = asked.gpus if on_gpus and not streams else ()
    return replace(asked, model=variant.model, gpus=gpus, conversion=variant.conversion)


def _wanted(asked: Case, found: Offers, *, on_gpus: bool) -> Iterator[Variant]:
    by_name = {variant.model.dtype: variant for variant in found.variants}
    return (by_name[name] for name in _names(asked, on_gpus=on_gpus) if name in by_name)


def _names(asked: Case, *, on_gpus: bool) -> tuple[str, ...]:
    request = asked.request
    overrides = request.overrides
    if overrides.precision is not None:
        return (overrides.precision,)  # of other names, nothing is offered
    if overrides.engine == "transformers" or overrides.device_map is not None:
        return ()
    if request.preset is Preset.CPU:
        return _CPU_KINDS
    if overrides.engine is None:
        # What is meant for a GPU is not given up for the processor while there is one.
        keeps = asked.gpus and not on_gpus and not policy(request.preset).reading_speed
        if keeps or is_tiny(asked.model.parameters):
            return ()
    return tuple(_KINDS[choice] for choice in policy(request.preset).precisions)
