"""Scenes as numbers: what each image patch ought to say, and the labels of the patch loss.

Each patch gets a 64-number description. The background colour stands on every patch; everything
about a shape stands on one patch only, the one that holds the shape's centre (its anchor), so that
counting is counting anchors and a relation compares two positions that anchors carry.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assets.training.scenes import COLOURS, SHAPES, Floats, Item, Scene

GRID = 8
PATCHES = GRID * GRID
BINS = 12
SIZES = 6
ANCHOR = 0
SHAPE = 1
COLOUR = SHAPE + len(SHAPES)
CENTRE_X = COLOUR + len(COLOURS)
CENTRE_Y = CENTRE_X + BINS
SIZE = CENTRE_Y + BINS
BACKGROUND = SIZE + SIZES
PALE = BACKGROUND + len(COLOURS)
ATTRIBUTES = PALE + 1
_POSITION_MARKS = np.linspace(0, 1, BINS, dtype=np.float32)
_SIZE_MARKS = np.linspace(0.06, 0.26, SIZES, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Labels:
    """What a picture's patches show: `attributes` (64, 64) and, per patch, the shape covering it.

    `shape` and `colour` are class numbers with 0 for "none" and -100 where the truth is unknown;
    `place` is (64, 3): that shape's x, y and radius, 0 where there is none.
    """

    attributes: Floats
    shape: NDArray[np.int64]
    colour: NDArray[np.int64]
    place: Floats


def bumps(value: float, marks: Floats) -> Floats:
    """A number as overlapping Gaussian bumps on `marks`, so that near values look alike."""
    width = 0.8 * (marks[1] - marks[0])
    return np.exp(-0.5 * ((value - marks) / width) ** 2).astype(np.float32)


def square_position(item: Item, aspect: float) -> tuple[float, float]:
    """The centre in the square, letterboxed picture that the model sees."""
    return (
        0.5 + (item.x - 0.5) * min(aspect, 1.0),
        0.5 + (item.y - 0.5) * min(1.0 / aspect, 1.0),
    )


def describe_item(item: Item) -> Floats:
    """The 64 numbers of one anchor, without the background."""
    row = np.zeros(ATTRIBUTES, np.float32)
    row[ANCHOR] = 1
    if item.shape:
        row[SHAPE + SHAPES.index(item.shape)] = 1
    if item.colour:
        row[COLOUR + COLOURS.index(item.colour)] = 1
    row[CENTRE_X : CENTRE_X + BINS] = bumps(item.x, _POSITION_MARKS)
    row[CENTRE_Y : CENTRE_Y + BINS] = bumps(item.y, _POSITION_MARKS)
    row[SIZE : SIZE + SIZES] = bumps(item.radius, _SIZE_MARKS)
    return row


def patch_of(x: float, y: float) -> int:
    """Index of the patch that holds a point of the square picture."""
    column = min(GRID - 1, max(0, int(x * GRID)))
    return min(GRID - 1, max(0, int(y * GRID))) * GRID + column


def attributes(scene: Scene) -> Floats:
    """(64 patches, 64 numbers): the background everywhere, each shape on its anchor."""
    out = np.zeros((PATCHES, ATTRIBUTES), np.float32)
    named = scene.background is not None
    out[:, BACKGROUND + COLOURS.index(scene.background) if scene.background else PALE] = 1
    assert named or scene.background is None
    for item in scene.items:
        out[patch_of(*square_position(item, scene.aspect))] += describe_item(item)
    return out


def labels(scene: Scene) -> Labels:
    """Every target of the patch losses for one scene."""
    shape = np.zeros(PATCHES, np.int64)
    colour = np.zeros(PATCHES, np.int64)
    place = np.zeros((PATCHES, 3), np.float32)
    middles = (np.arange(GRID, dtype=np.float32) + 0.5) / GRID
    short = min(scene.aspect, 1 / scene.aspect)
    for item in scene.items:
        x, y = square_position(item, scene.aspect)
        reach = max(item.radius * short * 0.95, 0.5 / GRID)
        inside = (middles[None, :] - x) ** 2 + (middles[:, None] - y) ** 2 < reach**2
        own = inside.reshape(-1)
        own[patch_of(x, y)] = True
        shape[own] = SHAPES.index(item.shape) + 1 if item.shape else -100
        colour[own] = COLOURS.index(item.colour) + 1 if item.colour else -100
        place[own] = (item.x, item.y, item.radius)
    return Labels(attributes(scene), shape, colour, place)
