"""Train the starter model.

    python -m assets.training.train --folder RUNS vision --minutes 25
    python -m assets.training.train --folder RUNS text --minutes 25
    python -m assets.training.train --folder RUNS joint --minutes 60

The first two are independent (one core each); `joint` starts from both. Every stage can be killed
and started again. Seeds are fixed; the schedule follows the clock, so a faster machine takes more
steps in the same minutes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from assets.training import vision_stage
from assets.training.language_stage import Progress, joint_losses, text_losses
from assets.training.loop import Losses, Plan, load, train
from assets.training.model import Sizes, Starter, start_from_words
from assets.training.muon import MuonWithAdamW
from assets.training.tokens import tokenizer_at, word_rows

PROCESSES = 2
ROWS = 12


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


def run_text(folder: Path, minutes: float, seed: int) -> None:
    """Stage B."""
    tokenizer = tokenizer_at(folder / "tokenizer.json", seed)
    model = Starter(Sizes(), seed)
    for part in (model.vision_tower, model.multi_modal_projector, model.patch_head):
        part.requires_grad_(requires_grad=False)
    start_from_words(model, word_rows(tokenizer))
    model.language_model.model.compile()
    optimizer = MuonWithAdamW(model, matrix_rate=0.004)
    progress = Progress()

    def step_losses(step: int, done: float) -> Losses:
        return text_losses(model, tokenizer, progress, seed=seed, step=step, rows=16, done=done)

    train(
        model,
        optimizer,
        step_losses,
        folder / "text",
        Plan(minutes),
        notes=lambda: {k: round(v, 2) for k, v in sorted(progress.wrong.items())},
    )


def run_joint(folder: Path, minutes: float, seed: int) -> None:
    """Stage C, on two processes."""
    tokenizer_at(folder / "tokenizer.json", seed)
    meeting = folder / "joint" / "meeting"
    meeting.parent.mkdir(parents=True, exist_ok=True)
    meeting.unlink(missing_ok=True)
    mp.spawn(_joint_process, (folder, minutes, seed, meeting), nprocs=PROCESSES)  # type: ignore[no-untyped-call]


def _joint_process(rank: int, folder: Path, minutes: float, seed: int, meeting: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting.resolve().as_uri(), rank=rank, world_size=PROCESSES)
    tokenizer = tokenizer_at(folder / "tokenizer.json", seed)
    model = Starter(Sizes(), seed)
    for stage, parts in (
        ("vision", ("vision_tower", "multi_modal_projector", "patch_head")),
        ("text", ("language_model",)),
    ):
        learned = load(folder / stage / "checkpoint.pt")["model"]
        own = {k: v for k, v in learned.items() if k.startswith(parts)}
        model.load_state_dict(own, strict=False)
    model.language_model.model.compile()
    optimizer = MuonWithAdamW(model, matrix_rate=0.01)
    progress = Progress()

    def step_losses(step: int, done: float) -> Losses:
        return joint_losses(model, tokenizer, progress, seed=(seed, rank), step=step, rows=ROWS, done=done)

    train(
        model,
        optimizer,
        step_losses,
        folder / "joint",
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
    parser.add_argument("stage", choices=("vision", "text", "joint"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    stages = {"vision": run_vision, "text": run_text, "joint": run_joint}
    stages[options.stage](options.folder, options.minutes, options.seed)


if __name__ == "__main__":
    main()
