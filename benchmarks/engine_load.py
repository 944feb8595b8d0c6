"""What watching a load costs: a 2 GB bf16 checkpoint through the engine against plain `from_pretrained`.

Both load the model and its processor in this process, alternating, with the files in the page cache; the
quoted figure is the median of the rounds' ratios. In bf16 the weights are mapped and not copied (on Linux),
in fp32 every one is read and converted.

    python -m benchmarks.engine_load FOLDER [--rounds 5]
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event as Flag

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from backends.engines.transformers_engine import TransformersEngine, warm_up
from backends.messages import Progress
from benchmarks.models import TWO_GB, checkpoint
from benchmarks.report import Row, publish
from tests.support.plans import make_plan

GOAL = 1.15
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def plainly(path: Path, precision: str) -> float:
    """Seconds of `from_pretrained` for model and processor."""
    gc.collect()
    begun = time.perf_counter()
    model = AutoModelForImageTextToText.from_pretrained(path, dtype=DTYPES[precision])
    processor = AutoProcessor.from_pretrained(path, backend="pil")
    seconds = time.perf_counter() - begun
    del model, processor
    return seconds


def through_the_engine(path: Path, precision: str) -> float:
    """Seconds of `Engine.load`, progress reports included."""
    gc.collect()
    engine, plan = TransformersEngine(), make_plan(path, precision=precision)
    seen: list[Progress] = []
    begun = time.perf_counter()
    engine.load(plan, seen.append, Flag())
    seconds = time.perf_counter() - begun
    read = [event for event in seen if event.stage == "read"]
    assert read[-1].done == read[-1].total > 2e9
    engine.close()
    return seconds


def ratios(path: Path, precision: str, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of both ways, round by round, in alternating order."""
    ways: list[Callable[[Path, str], float]] = [plainly, through_the_engine]
    seconds: dict[str, list[float]] = {way.__name__: [] for way in ways}
    for round_ in range(rounds + 1):
        for way in ways if round_ % 2 else reversed(ways):
            taken = way(path, precision)
            if round_:  # the first round fills the page cache
                seconds[way.__name__].append(taken)
    return seconds["plainly"], seconds["through_the_engine"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    path = checkpoint(TWO_GB, options.folder)
    warm_up()
    rows, details = [], {}
    for precision, rounds in (("bf16", 4 * options.rounds), ("fp32", options.rounds)):
        plain, engine = ratios(path, precision, rounds)
        ratio = statistics.median(mine / theirs for mine, theirs in zip(engine, plain, strict=True))
        rows += [
            Row(
                f"load a 2 GB bf16 checkpoint as {precision}, plain from_pretrained",
                f"{statistics.median(plain):.2f} s",
            ),
            Row(
                f"the same through the engine, with progress, as {precision}",
                f"{statistics.median(engine):.2f} s, ratio {ratio:.2f}",
                f"<= {GOAL} x",
                ratio <= GOAL,
            ),
        ]
        details[precision] = {"plain_s": plain, "engine_s": engine}
    publish("engine_load", rows, details)


if __name__ == "__main__":
    main()
