"""The loop that every stage shares: a schedule by the clock, logs, checkpoints, resuming.

A checkpoint is written beside its final name and renamed, so killing the process at any moment
loses at most a minute; starting the same command again goes on from it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assets.training.model import Starter
from assets.training.muon import MuonWithAdamW

Losses = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast: minutes of training in all, warm-up share, steps between logs."""

    minutes: float
    warm_up: float = 0.03
    log_every: int = 25
    save_every_seconds: float = 60.0


def schedule(done: float, warm_up: float) -> float:
    """Learning-rate factor for the share of time that is done: up, then straight down to 0.01."""
    if done < warm_up:
        return max(done / warm_up, 0.02)
    return max((1 - done) / (1 - warm_up), 0.01)


def save(path: Path, payload: dict[str, Any]) -> None:
    """Write, then rename."""
    partial = path.with_suffix(".partial")
    torch.save(payload, partial)
    partial.replace(path)


def load(path: Path) -> dict[str, Any]:
    """A training checkpoint; tensors and plain values only."""
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


def train(
    model: Starter,
    optimizer: MuonWithAdamW,
    step_losses: Callable[[int, float], Losses],
    folder: Path,
    plan: Plan,
    *,
    agree: Callable[[float], float] = lambda seconds: seconds,
    notes: Callable[[], dict[str, float]] = dict,
    writes: bool = True,
) -> None:
    """Run until the minutes are used up. `step_losses(step, share of time done)` draws its own batch.

    `agree` runs between the gradients and the update: with several processes it averages the
    gradients, and gives back the seconds that all of them go by.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    step, spent = 0, 0.0
    if checkpoint.exists():
        state = load(checkpoint)
        model.load_state_dict(state["model"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
        step, spent = int(state["step"]), float(state["seconds"])
    started = time.monotonic() - spent
    saved, total = spent, plan.minutes * 60
    means: dict[str, float] = {}

    def write() -> None:
        payload = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        save(checkpoint, payload | {"step": step, "seconds": spent})

    while spent < total:
        losses = step_losses(step, spent / total)
        loss = torch.stack(list(losses.values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        spent = agree(time.monotonic() - started)
        optimizer.step(schedule(spent / total, plan.warm_up))
        step += 1
        for name, value in losses.items():
            means[name] = means.get(name, 0.0) + float(value.detach())
        if step % plan.log_every == 0:
            line = {name: round(value / plan.log_every, 4) for name, value in means.items()}
            means.clear()
            if writes:
                _log(folder / "log.jsonl", {"step": step, "minutes": round(spent / 60, 2)} | line | notes())
        if writes and spent - saved > plan.save_every_seconds:
            write()
            saved = spent
    if writes:
        write()


def _log(path: Path, line: dict[str, Any]) -> None:
    print(line, flush=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
