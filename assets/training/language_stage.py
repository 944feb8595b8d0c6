"""Stage B: learn to answer from pixels, everything trained together.

The patch losses of stage A stay, so that the image tokens go on saying what they said.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from assets.training.batches import BASE_WEIGHTS, Batch, Mix, make_batch
from assets.training.loop import Losses
from assets.training.model import Starter
from assets.training.questions import MAKERS
from assets.training.vision_stage import patch_losses


@dataclass(slots=True)
class Progress:
    """How often each kind of question is answered wrong, as a running mean over batches."""

    wrong: dict[str, float] = field(default_factory=dict)

    def update(self, kinds: tuple[str, ...], right: Tensor) -> None:
        """`right`: one bool per question."""
        outcome: dict[str, list[float]] = {}
        for kind, good in zip(kinds, right.tolist(), strict=True):
            outcome.setdefault(kind, []).append(1.0 - float(good))
        for kind, misses in outcome.items():
            share = 0.98 ** len(misses)
            mean = sum(misses) / len(misses)
            self.wrong[kind] = share * self.wrong.get(kind, 1.0) + (1 - share) * mean

    def weights(self) -> dict[str, float]:
        """Ask more of what goes wrong, up to four times as often as what goes well.

        What has not begun to work waits for the easier kinds that it builds on; descriptions do
        not, since they teach where everything is long before a whole one is right.
        """
        found = {}
        for kind in MAKERS:
            wrong = self.wrong.get(kind, 0.5)
            ready = 1.0 if wrong < 0.95 or kind == "description" else 0.4
            found[kind] = BASE_WEIGHTS.get(kind, 1.0) * (0.25 + min(wrong, 0.75)) * ready
        return found


def answer_losses(model: Starter, batch: Batch, tokens: Tensor | None, progress: Progress) -> Losses:
    """Cross-entropy of the answers' tokens, given the image tokens."""
    language = model.language_model
    embedded = language.model.embed_tokens(batch.ids)
    flat = embedded.flatten(0, 1)
    if tokens is not None:
        flat = flat.index_copy(0, batch.slots, tokens.flatten(0, 1).to(flat.dtype))
    hidden = language.model(flat.view_as(embedded), batch.positions, batch.mask)
    logits = language.lm_head(hidden.flatten(0, 1)[batch.sources]).float()
    with torch.no_grad():
        good = (logits.argmax(-1) == batch.targets).float()
        right = torch.ones(len(batch.kinds)).scatter_reduce(0, batch.asked, good, "amin")
        progress.update(batch.kinds, right)
    return {"answers": functional.cross_entropy(logits, batch.targets)}


def most_shapes(done: float) -> int:
    """The curriculum: two shapes at first, then three, then five."""
    return 2 if done < 0.06 else 3 if done < 0.2 else 5


def joint_losses(
    model: Starter,
    tokenizer: Tokenizer,
    progress: Progress,
    *,
    seed: tuple[int, ...],
    step: int,
    rows: int,
    done: float,
    curriculum: bool,
    crowds: float,
) -> Losses:
    """Stages B and C: answers from pixels. The patch losses stay.

    `crowds` is the share of pictures with many shapes alike, once the curriculum has come to five.
    """
    most = most_shapes(done) if curriculum else 5
    mix = Mix(weights=progress.weights(), most=most, crowds=crowds if most == 5 else 0.0)
    batch = make_batch(tokenizer, np.random.default_rng((*seed, 3, step)), rows, mix)
    with torch.autocast("cpu", torch.bfloat16):
        if batch.pictures is None:
            return answer_losses(model, batch, None, progress)
        features, tokens = model.see(batch.pictures.pixels)
        losses = answer_losses(model, batch, tokens, progress)
        patches = patch_losses(model, features, tokens, batch.pictures)
    return losses | patches
