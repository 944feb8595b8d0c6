"""Train the starter model.

    python -m assets.training.train --folder RUNS vision --minutes 30
    python -m assets.training.train --folder RUNS joint --minutes 50
    python -m assets.training.train --folder RUNS polish --minutes 12

`vision` (one process) teaches the tower to say what each patch shows; `joint` (two processes)
starts from it and learns to answer; `polish` adds pictures with many shapes alike, which are rare
otherwise and which counting needs. All can be killed and started again at any moment. Seeds are
fixed and batches depend on seed and step alone; the learning rate and the curriculum follow the
clock, so a faster machine takes more steps in the same minutes.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from assets.training import vision_stage
from assets.training.language_stage import Progress, joint_losses
from assets.training.loop import Losses, Plan, load, train
from assets.training.model import Sizes, Starter, start_from_words
from assets.training.muon import MuonWithAdamW
from assets.training.tokens import tokenizer_at, word_meanings

PROCESSES = 2
ROWS = 8


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage that answers questions: whose weights it goes on from, how fast, and on what."""

    name: str
    after: str
    pace: float
    curriculum: bool
    crowds: float


JOINT = Stage("joint", after="vision", pace=1.0, curriculum=True, crowds=0.06)
POLISH = Stage("polish", after="joint", pace=0.25, curriculum=False, crowds=0.3)


def run_vision(folder: Path, minutes: float, seed: int) -> None:
    """Stage A."""
    model = Starter(Sizes(), seed)
    tower = model.vision_tower.vision_model
    tower.encoder.compile()
    model.language_model.requires_grad_(requires_grad=False)
    optimizer = MuonWithAdamW(model, matrix_rate=0.01)

    def step_losses(step: int, _done: float) -> Losses:
        return vision_stage.losses(model, seed, step, 64)

    train(model, optimizer, step_losses, folder / "vision", Plan(minutes))


def run_joint(folder: Path, minutes: float, seed: int) -> None:
    """Stage B."""
    _run_processes(folder, minutes, seed, JOINT)


def run_polish(folder: Path, minutes: float, seed: int) -> None:
    """Stage C."""
    _run_processes(folder, minutes, seed, POLISH)


def _run_processes(folder: Path, minutes: float, seed: int, stage: Stage) -> None:
    tokenizer_at(folder / "tokenizer.json", seed)
    meeting = folder / stage.name / "meeting"
    meeting.parent.mkdir(parents=True, exist_ok=True)
    meeting.unlink(missing_ok=True)
    mp.spawn(_process, (folder, minutes, seed, stage), nprocs=PROCESSES)  # type: ignore[attr-defined, no-untyped-call]


def _process(rank: int, folder: Path, minutes: float, seed: int, stage: Stage) -> None:
    torch.set_num_threads(1)
    meeting = folder / stage.name / "meeting"
    dist.init_process_group("gloo", init_method=meeting.resolve().as_uri(), rank=rank, world_size=PROCESSES)
    tokenizer = tokenizer_at(folder / "tokenizer.json", seed)
    model = Starter(Sizes(), seed)
    learned = load(folder / stage.after / "checkpoint.pt")["model"]
    kept = {
        k: v for k, v in learned.items() if stage.after == POLISH.after or not k.startswith("language_model")
    }
    model.load_state_dict(kept, strict=False)
    if stage.after != POLISH.after:
        start_from_words(model, word_meanings(tokenizer))
    model.language_model.model.compile()
    # The tower has learned to see; noise from the first answers must not undo that.
    optimizer = MuonWithAdamW(
        model, matrix_rate=0.001 * stage.pace, other_rate=0.002 * stage.pace, eye_rate=0.0003 * stage.pace
    )
    progress = Progress()

    def step_losses(step: int, done: float) -> Losses:
        return joint_losses(
            model,
            tokenizer,
            progress,
            seed=(seed, rank),
            step=step,
            rows=ROWS,
            done=done,
            curriculum=stage.curriculum,
            crowds=stage.crowds,
        )

    train(
        model,
        optimizer,
        step_losses,
        folder / stage.name,
        Plan(minutes),
        agree=lambda seconds: average_gradients(model, seconds),
        notes=lambda: {k: round(v, 3) for k, v in sorted(progress.wrong.items())},
        writes=rank == 0,
    )


def average_gradients(model: Starter, seconds: float) -> float:
    """Mean over processes of every gradient, in one message, and of the clock."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([*(g.flatten() for g in grads), torch.tensor([seconds])])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    start = 0
    for parameter in parameters:
        end = start + parameter.numel()
        parameter.grad = flat[start:end].view_as(parameter)
        start = end
    return float(flat[-1])


def main() -> None:
    """Parse the command line and run one stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("vision", "joint", "polish"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    stages = {"vision": run_vision, "joint": run_joint, "polish": run_polish}
    stages[options.stage](options.folder, options.minutes, options.seed)


if __name__ == "__main__":
    main()
