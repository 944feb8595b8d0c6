"""Scenes as numbers: what each image patch ought to say, and the labels of the patch loss.

Each patch gets a 64-number description: the background's colour, and of the shape that covers it
the name, colour, size and the absolute position of its centre. One patch per shape, the one that
holds the centre, is flagged as its anchor, so that counting is counting anchors and a relation
compares two positions. (Describing a shape on its anchor alone does not work: one patch in 64 is
so faint in a fresh attention layer that the text model does not find it.)
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
    found: Floats = np.exp(-0.5 * ((value - marks) / width) ** 2).astype(np.float32)
    return found


def square_position(item: Item, aspect: float) -> tuple[float, float]:
    """The centre in the square, letterboxed picture that the model sees."""
    return (
        0.5 + (item.x - 0.5) * min(aspect, 1.0),
        0.5 + (item.y - 0.5) * min(1.0 / aspect, 1.0),
    )


def describe_item(item: Item) -> Floats:
    """The 64 numbers of a shape on its anchor, without the background."""
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
    """(64 patches, 64 numbers): the background everywhere, each shape where it covers a patch."""
    out = np.zeros((PATCHES, ATTRIBUTES), np.float32)
    out[:, BACKGROUND + COLOURS.index(scene.background) if scene.background else PALE] = 1
    for item in scene.items:
        covered, anchor = cover(item, scene.aspect)
        row = describe_item(item)
        out[covered, :BACKGROUND] = row[:BACKGROUND]
        out[covered, ANCHOR] = 0
        out[anchor, ANCHOR] = 1
    return out


def cover(item: Item, aspect: float) -> tuple[NDArray[np.bool_], int]:
    """Which patches a shape covers (64 bools; its middle, at least), and its anchor's number."""
    x, y = square_position(item, aspect)
    middles = (np.arange(GRID, dtype=np.float32) + 0.5) / GRID
    reach = max(item.radius * min(aspect, 1 / aspect) * 0.95, 0.5 / GRID)
    inside = (middles[None, :] - x) ** 2 + (middles[:, None] - y) ** 2 < reach**2
    anchor = patch_of(x, y)
    covered = inside.reshape(-1)
    covered[anchor] = True
    return covered, anchor


def labels(scene: Scene) -> Labels:
    """Every target of the patch losses for one scene."""
    shape = np.zeros(PATCHES, np.int64)
    colour = np.zeros(PATCHES, np.int64)
    place = np.zeros((PATCHES, 3), np.float32)
    for item in scene.items:
        own, _ = cover(item, scene.aspect)
        shape[own] = SHAPES.index(item.shape) + 1 if item.shape else -100
        colour[own] = COLOURS.index(item.colour) + 1 if item.colour else -100
        place[own] = (item.x, item.y, item.radius)
    return Labels(attributes(scene), shape, colour, place)
