"""The optimizer: Muon for the vision tower's matrices, AdamW for everything else.

Muon (Keller Jordan, 2024) replaces the momentum of a matrix by the nearest orthogonal one, found
with five Newton-Schulz steps. Matrices of one shape are stacked, since on a CPU a few large
products cost far less than many small ones. The text model's gradients, from about two hundred
questions at a time, are too noisy for it: there AdamW learns faster.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(stack: Tensor, steps: int = 5) -> Tensor:
    """Push the singular values of each (rows, columns) matrix of a stack towards one."""
    a, b, c = _COEFFICIENTS
    x: Tensor = stack.bfloat16()
    wide = x.shape[-2] <= x.shape[-1]
    if not wide:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    if not wide:
        x = x.mT
    return x.to(stack.dtype)


class MuonWithAdamW:
    """Both optimizers behind one `step(scale)`, where `scale` is the schedule's 0..1.

    `matrix_rate` is Muon's; AdamW's are `eye_rate` for what is left of the vision side (projector,
    patch embedding, norms) and `other_rate` for the text model.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        matrix_rate: float = 0.006,
        other_rate: float = 0.002,
        eye_rate: float = 0.002,
        momentum: float = 0.95,
        decay: float = 0.01,
    ) -> None:
        self.matrix_rate, self.rates = matrix_rate, (other_rate, eye_rate)
        self.momentum, self.decay = momentum, decay
        stacks: dict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
        others: list[nn.Parameter] = []
        eyes: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and name.startswith("vision_tower") and ".layers." in name:
                stacks[tuple(parameter.shape)].append(parameter)
            else:
                (others if name.startswith("language_model") else eyes).append(parameter)
        self.others = others
        self.stacks = [stacks[shape] for shape in sorted(stacks)]
        self.moments = [torch.zeros(len(s), *s[0].shape) for s in self.stacks]
        groups = [{"params": others}, {"params": eyes}]
        self.adamw = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """Update every parameter that has a gradient, then clear the gradients."""
        for stack, moment in zip(self.stacks, self.moments, strict=True):
            if stack[0].grad is None:
                continue
            gradient = torch.stack([p.grad if p.grad is not None else 0 * p for p in stack])
            moment.lerp_(gradient, 1 - self.momentum)
            update = orthogonalize(gradient.lerp_(moment, self.momentum))
            rows, columns = moment.shape[-2:]
            rate = self.matrix_rate * scale * max(1.0, rows / columns) ** 0.5
            for parameter, change in zip(stack, update, strict=True):
                parameter.mul_(1 - self.matrix_rate * scale * self.decay)
                parameter.add_(change, alpha=-rate)
                parameter.grad = None
        for group, rate in zip(self.adamw.param_groups, self.rates, strict=True):
            group["lr"] = rate * scale
        nn.utils.clip_grad_norm_(self.others, 1.0)
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Momentum of both optimizers, loadable with `weights_only=True`."""
        return {"moments": self.moments, "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        for mine, theirs in zip(self.moments, state["moments"], strict=True):
            mine.copy_(theirs)
        self.adamw.load_state_dict(state["adamw"])
