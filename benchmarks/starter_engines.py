"""The starter model's answers through llama.cpp beside transformers': easy-VQA's test split, greedy.

    python -m benchmarks.starter_engines [--pictures 1000]

Accuracy, how far it is from transformers' (float32), and how many answers are the same to the letter. The
plans are Snug's own, the files are converted by the engine, and every question goes through a worker process
as a person's would. Needs the `easy-vqa` package; ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from assets.training.evaluate import Answerer, Case, easy_test, judge
from backends.messages import Done, ImagePart, Message, Role, SamplingParams, TextDelta, TextPart
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from backends.service import Service
from backends.settings import Settings, load_settings
from backends.worker.client import WorkerClient
from backends.worker.environment import child_environment
from benchmarks.report import Row, publish

# Precision -> points of accuracy that it may be away from transformers.
GOALS = {"f16": 0.3, "q8_0": 0.3, "q4_0": 1.0}
AGREEMENT = 0.97
LONGEST_ANSWER = 24


def plan_for(precision: str, service: Service) -> Plan:
    """Snug's own plan of the starter on the CPU."""
    overrides = Overrides(engine="llamacpp", precision=precision)
    return service.plan(PlanRequest("starter", Preset.CPU, overrides))


def answers(plan: Plan, cases: Sequence[Case], settings: Settings, service: Service) -> Iterator[str]:
    """Answers in the order of the cases."""
    client = WorkerClient(plan.engine, child_environment(settings), settings.home / f"{plan.precision}.log")
    try:
        task = client.load(plan)
        for _ in task:
            pass
        shown: tuple[int, ImagePart | None] = (0, None)
        for case in cases:
            if shown[0] != id(case.pixels) or shown[1] is None:
                shown = (id(case.pixels), picture(case, settings.home, service))
            parts = (*((shown[1],) if shown[1] else ()), TextPart(case.question))
            yield ask(client, Message(Role.USER, parts))
    finally:
        client.close()


def picture(case: Case, folder: Path, service: Service) -> ImagePart | None:
    """The picture of a case as a person's picture comes in."""
    if case.pixels is None:
        return None
    path = folder / "picture.png"
    Image.fromarray(np.asarray(case.pixels)).save(path)
    return service.import_image(path, path.name)


def ask(client: WorkerClient, message: Message) -> str:
    """One greedy answer."""
    sampling = SamplingParams(temperature=0.0, max_tokens=LONGEST_ANSWER)
    text = ""
    for event in client.chat("easy", (message,), sampling):
        if isinstance(event, TextDelta):
            text += event.text
        if isinstance(event, Done):
            break
    return text.strip()


def rows(cases: Sequence[Case], theirs: Sequence[str], ours: dict[str, list[str]]) -> Iterator[Row]:
    """Accuracy of everybody, and how far each precision is from transformers."""
    base = share(cases, theirs)
    yield Row("transformers fp32", f"{base:.2f} % of {len(cases):,}")
    for precision, found in ours.items():
        own = share(cases, found)
        goal = GOALS[precision]
        name = f"llama.cpp {precision.upper()}"
        value = f"{own:.2f} %, {own - base:+.2f} points"
        yield Row(name, value, f"within {goal} points", abs(own - base) <= goal)
        same = sum(one == other for one, other in zip(found, theirs, strict=True)) / len(cases)
        yield Row(
            f"{name}, answers the same to the letter",
            f"{100 * same:.2f} %",
            f">= {AGREEMENT:.0%}",
            same >= AGREEMENT,
        )


def share(cases: Sequence[Case], found: Sequence[str]) -> float:
    """Right answers in percent."""
    return 100 * sum(map(judge, cases, found)) / len(cases)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=1000)
    options = parser.parse_args()
    cases = list(easy_test(options.pictures))
    ours: dict[str, list[str]] = {}
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="snug-bench-") as home:
        settings = load_settings({"SNUG_HOME": home})
        settings.home.mkdir(parents=True, exist_ok=True)
        with Service(settings, preload=False) as service:
            for precision in GOALS:
                begun = time.perf_counter()
                ours[precision] = list(answers(plan_for(precision, service), cases, settings, service))
                seconds[precision] = round(time.perf_counter() - begun, 1)
                print(f"{precision}: {len(cases)} questions in {seconds[precision]} s", flush=True)
        theirs = Answerer(settings.starter)(cases)
    publish(
        "starter_engines",
        list(rows(cases, theirs, ours)),
        {"questions": len(cases), "seconds": seconds},
    )


if __name__ == "__main__":
    main()
