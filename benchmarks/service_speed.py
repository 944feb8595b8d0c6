"""What the worker's process and the service cost: tokens per second against the engine called directly.

Both run the same checkpoint (the starter's shape with random weights, so that answers have the asked
length) on the same threads, one after the other in alternating order; the quoted figure is the median of
the rounds' ratios. The fake engine, which says a word in a microsecond, shows the limit of the pipe.

    python -m benchmarks.service_speed [--rounds 20] [--tokens 200]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event as Flag
from typing import Any

from backends.messages import Done, Event, Message, Role, SamplingParams, TextDelta, TextPart
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from backends.service import Service
from backends.settings import Settings, load_settings
from backends.worker.environment import THREADS
from benchmarks.report import Row, publish

GOAL = 0.97
QUESTION = (Message(Role.USER, (TextPart("Describe the picture."),)),)

Ask = Callable[[int], Iterable[Event]]


@dataclass(frozen=True, slots=True)
class Run:
    """One answer as its reader sees it: tokens after the first, and the seconds they took."""

    tokens_per_s: float
    pieces: int


def make_checkpoint(starter: Path, folder: Path) -> Path:
    """Write a copy of the starter with random weights: its greedy answers do not end by themselves."""
    import torch
    from transformers import AutoConfig, LlavaForConditionalGeneration

    for file in starter.iterdir():
        if file.is_file() and file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(AutoConfig.from_pretrained(starter))
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


def read(events: Iterable[Event], *, from_start: bool = False) -> Run:
    """Follow one answer with a clock in hand, from its first piece or from the question on."""
    first = time.perf_counter() if from_start else 0.0
    pieces = 0
    for event in events:
        if isinstance(event, TextDelta):
            first = first or time.perf_counter()
            pieces += 1
        if isinstance(event, Done):
            seconds = time.perf_counter() - first
            return Run((event.usage.completion_tokens - 1) / seconds, pieces)
    raise AssertionError("an answer ends with Done")


def directly(plan: Plan) -> Ask:
    """The engine in this process."""
    from backends.engines.base import ChatRequest
    from backends.engines.transformers_engine import TransformersEngine

    engine = TransformersEngine()
    engine.load(plan, lambda _progress: None, Flag())

    def ask(tokens: int) -> Iterator[Event]:
        request = ChatRequest("direct", QUESTION, SamplingParams(temperature=0.0, max_tokens=tokens))
        return engine.chat(request, Flag())

    return ask


def through(service: Service) -> Ask:
    """The engine behind the service."""

    def ask(tokens: int) -> Iterator[Event]:
        return service.chat("bench", QUESTION, SamplingParams(temperature=0.0, max_tokens=tokens))

    return ask


def compare(one: Ask, other: Ask, rounds: int, tokens: int) -> list[tuple[Run, Run]]:
    """Ask both in turn, the first of a round changing, after one round that does not count."""
    pairs = []
    for number in range(rounds + 1):
        if number % 2:
            second = read(other(tokens))
            first = read(one(tokens))
        else:
            first = read(one(tokens))
            second = read(other(tokens))
        pairs.append((first, second))
    return pairs[1:]


def real(settings: Settings, folder: Path, rounds: int, tokens: int) -> dict[str, Any]:
    """Ratio for the transformers engine."""
    request = PlanRequest(
        str(folder), Preset.CPU, Overrides(precision="fp32", context_tokens=tokens + 64, images=0)
    )
    with Service(settings, preload=False) as service:
        plan = service.plan(request)
        list(service.load(plan))
        pairs = compare(directly(plan), through(service), rounds, tokens)
    ratios = [behind.tokens_per_s / direct.tokens_per_s for direct, behind in pairs]
    return {
        "direct_tokens_per_s": statistics.median(direct.tokens_per_s for direct, _ in pairs),
        "service_tokens_per_s": statistics.median(behind.tokens_per_s for _, behind in pairs),
        "ratio": statistics.median(ratios),
        "ratio_quartiles": statistics.quantiles(ratios, n=4),
        "pieces_direct": pairs[-1][0].pieces,
        "pieces_service": pairs[-1][1].pieces,
    }


def limit(settings: Settings, plan: Plan, rounds: int) -> dict[str, float]:
    """Words per second that the pipe carries."""
    words = (Message(Role.USER, (TextPart("long"),)),)
    with Service(settings, preload=False, engine="fake") as service:
        list(service.load(plan))
        sampling = SamplingParams(max_tokens=2000)
        runs = [read(service.chat("bench", words, sampling), from_start=True) for _ in range(rounds)]
    return {"words_per_s": statistics.median(run.tokens_per_s for run in runs)}


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=200)
    options = parser.parse_args()
    # Before torch is imported: both sides wait for their threads in the way that the worker does.
    os.environ.update(THREADS)
    with tempfile.TemporaryDirectory() as home:
        settings = replace(load_settings({"SNUG_HOME": home}))
        folder = Path(home) / "random"
        folder.mkdir()
        make_checkpoint(settings.starter, folder)
        measured = real(settings, folder, options.rounds, options.tokens)
        with Service(settings, preload=False) as planner:
            plan = planner.plan(PlanRequest("starter", Preset.CPU))
        pipe = limit(settings, plan, options.rounds)
    ratio = measured["ratio"]
    rows = [
        Row("tokens per second, engine called directly", f"{measured['direct_tokens_per_s']:.0f}"),
        Row("tokens per second through worker and service", f"{measured['service_tokens_per_s']:.0f}"),
        Row("ratio (median of rounds)", f"{ratio:.3f}", f">= {GOAL}", ratio >= GOAL),
        Row("words per second that the pipe carries", f"{pipe['words_per_s']:,.0f}"),
    ]
    publish("service_speed", rows, {"rounds": options.rounds, "tokens": options.tokens, **measured, **pipe})


if __name__ == "__main__":
    main()
