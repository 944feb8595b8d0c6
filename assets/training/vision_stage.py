"""Stage A: teach the vision tower and the projector to say what each patch shows.

No language is involved. Two losses: the projected tokens must equal the patch's description in
the fixed interface (see `truth` and `model.make_interface`), and a linear head on the features
must name the shape and colour that cover each patch, and where that shape's centre is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from assets.training import easy, truth
from assets.training.loop import Losses
from assets.training.model import IMAGE_SIZE, Starter
from assets.training.scenes import (
    COLOURS,
    SHAPES,
    TRAIN_STYLE,
    Pixels,
    Scene,
    Style,
    draw,
    random_scene,
)

EASY_SHARE = 0.08


@dataclass(frozen=True, slots=True)
class Pictures:
    """A batch of pictures with the truth about their patches."""

    pixels: Tensor
    attributes: Tensor
    shape: Tensor
    colour: Tensor
    place: Tensor


def normalise(pixels: Pixels) -> Tensor:
    """(batch, 128, 128, 3) uint8 to (batch, 3, 128, 128), mean and deviation 0.5."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def paint(scene: Scene, rng: np.random.Generator, style: Style = TRAIN_STYLE) -> Pixels:
    """A training picture at the model's size, often scaled to it as the processor would."""
    pixels = draw(scene, int(rng.choice(style.canvas)), rng)
    if len(pixels) == IMAGE_SIZE:
        return pixels
    resized = Image.fromarray(pixels).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def bundle(pixels: list[Pixels], scenes: list[Scene]) -> Pictures:
    """Stack pictures and their labels."""
    rows = [truth.labels(scene) for scene in scenes]
    return Pictures(
        normalise(np.stack(pixels)),
        torch.from_numpy(np.stack([row.attributes for row in rows])),
        torch.from_numpy(np.stack([row.shape for row in rows])),
        torch.from_numpy(np.stack([row.colour for row in rows])),
        torch.from_numpy(np.stack([row.place for row in rows])),
    )


def random_pictures(rng: np.random.Generator, size: int) -> Pictures:
    """A batch of fresh drawings with a few easy-VQA training pictures among them."""
    pixels, scenes = [], []
    easy_pictures = easy.pictures("train")
    for _ in range(size):
        if rng.random() < EASY_SHARE:
            picture = easy_pictures[int(rng.integers(len(easy_pictures)))]
            scene, image = easy.as_scene(picture), picture.pixels
        else:
            scene = random_scene(rng, int(rng.integers(1, 7)))
            image = paint(scene, rng)
        scenes.append(scene)
        pixels.append(image)
    assert pixels[0].shape[0] == IMAGE_SIZE
    return bundle(pixels, scenes)


def patch_losses(model: Starter, features: Tensor, tokens: Tensor, truth_: Pictures) -> Losses:
    """The two losses above, each a scalar."""
    named = model.patch_head(features).float()
    shapes, colours = len(SHAPES) + 1, len(COLOURS) + 1
    covered = (truth_.shape != 0)[..., None]
    place = functional.smooth_l1_loss(named[..., shapes + colours :], truth_.place, reduction="none")
    # Most patches are empty; the covered ones carry what matters.
    weight_shape = torch.ones(shapes)
    weight_colour = torch.ones(colours)
    weight_shape[0] = weight_colour[0] = 0.4
    dense = (
        functional.cross_entropy(named[..., :shapes].flatten(0, 1), truth_.shape.flatten(), weight_shape)
        + functional.cross_entropy(
            named[..., shapes : shapes + colours].flatten(0, 1),
            truth_.colour.flatten(),
            weight_colour,
        )
        + 40 * (place * covered).sum() / covered.sum().clamp(min=1) / 3
    )
    said, beside = model.reads(tokens)
    error = (said - truth_.attributes).square() * known(truth_.attributes)
    anchors = truth_.attributes[..., truth.ANCHOR].sum().clamp(min=1)
    items = error[..., truth.SHAPE : truth.BACKGROUND].sum() / covered.sum().clamp(min=1)
    flags = error[..., truth.ANCHOR].sum() / anchors
    around = error[..., truth.BACKGROUND :].sum(-1).mean()
    return {
        "dense": 0.35 * dense,
        "items": 0.5 * items,
        "anchors": flags,
        "around": around,
        "beside": 5.0 * beside.square().mean(),
    }


def known(attributes: Tensor) -> Tensor:
    """1 where the truth is known: a shape without a name or colour says nothing about it."""
    weight = torch.ones_like(attributes)
    covered = attributes[..., truth.SIZE : truth.BACKGROUND].sum(-1) > 0
    for first, count in ((truth.SHAPE, len(SHAPES)), (truth.COLOUR, len(COLOURS))):
        unknown = covered & (attributes[..., first : first + count].sum(-1) == 0)
        weight[..., first : first + count] = (~unknown)[..., None].float()
    return weight


def losses(model: Starter, seed: int, step: int, size: int) -> Losses:
    """One step on a batch that depends on seed and step alone."""
    batch = random_pictures(np.random.default_rng((seed, 1, step)), size)
    with torch.autocast("cpu", torch.bfloat16):
        features, tokens = model.see(batch.pixels)
        return patch_losses(model, features, tokens, batch)
