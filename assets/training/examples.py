"""Draw the example pictures that the page offers: `python -m assets.training.examples`.

Same shapes as in training, drawn large (768 px) so that they look good on a screen; the processor
scales them down for the model.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

from assets.training.scenes import Floats, Item, distance

SIZE = 768
OVERSAMPLE = 2
Rgb = tuple[int, int, int]

CIRCLES = (
    Item("circle", "red", 0.24, 0.28, 0.13),
    Item("circle", "blue", 0.74, 0.24, 0.1),
    Item("circle", "red", 0.55, 0.76, 0.12),
    Item("square", "blue", 0.23, 0.74, 0.13, 0.1),
    Item("star", "yellow", 0.82, 0.6, 0.12, 0.2),
)
GARDEN = (
    Item("heart", "pink", 0.22, 0.75, 0.15, -0.12),
    Item("triangle", "green", 0.72, 0.72, 0.15),
    Item("star", "orange", 0.52, 0.22, 0.13, 0.15),
)
NIGHT = (
    Item("star", "yellow", 0.2, 0.22, 0.09, 0.3),
    Item("circle", "white", 0.76, 0.26, 0.17),
    Item("diamond", "teal", 0.28, 0.74, 0.14, 0.08),
    Item("cross", "red", 0.74, 0.78, 0.1, 0.12),
)
COLOURS: dict[str, Rgb] = {
    "red": (226, 40, 48),
    "blue": (36, 92, 226),
    "yellow": (252, 214, 30),
    "pink": (250, 122, 184),
    "green": (38, 166, 66),
    "orange": (250, 140, 24),
    "white": (250, 249, 245),
    "teal": (10, 146, 142),
}
EXAMPLES = (
    {
        "file": "circles.png",
        "label": {"en": "Red circles", "zh": "红色圆形"},
        "question": "How many red circles are there?",
        "answer": "There are 2 red circles.",
    },
    {
        "file": "garden.png",
        "label": {"en": "Three shapes", "zh": "三个图形"},
        "question": "Describe the picture.",
        "answer": "I see a pink heart at the bottom left, an orange star at the top and a green"
        " triangle at the bottom right.",
    },
    {
        "file": "night.png",
        "label": {"en": "Night sky", "zh": "夜空"},
        "question": "Is the yellow star to the left of the white circle?",
        "answer": "Yes.",
    },
)


def paint(items: tuple[Item, ...], top: Rgb, bottom: Rgb) -> Image.Image:
    """Shapes with a soft shadow and a gentle shine on a vertical gradient."""
    size = SIZE * OVERSAMPLE
    shade = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    canvas = (np.asarray(top, np.float32) * (1 - shade) + np.asarray(bottom) * shade) * np.ones(
        (1, size, 1), np.float32
    )
    canvas = canvas.astype(np.float32)
    for item in items:
        shadow = _cover(item, size, shift=0.012, soft=0.016 * size)
        canvas *= 1 - 0.18 * shadow
        cover = _cover(item, size, shift=0.0, soft=1.0)
        y = (np.linspace(0, 1, size, dtype=np.float32)[:, None, None] - item.y) / item.radius
        fill = np.clip(np.asarray(COLOURS[item.colour], np.float32) - 9 * y, 0, 255)
        canvas += cover * (fill - canvas)
    image = Image.fromarray(np.clip(canvas + 0.5, 0, 255).astype(np.uint8))
    return image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def _cover(item: Item, size: int, *, shift: float, soft: float) -> Floats:
    """How much of each pixel the shape covers, with an edge `soft` pixels wide."""
    axis = np.linspace(0, 1, size, dtype=np.float32)
    x, y = (axis[None, :] - item.x) / item.radius, (axis[:, None] - item.y - shift) / item.radius
    cos, sin = math.cos(item.angle), math.sin(item.angle)
    field = distance(item.shape, x * cos + y * sin, y * cos - x * sin, item.stretch)
    cover: Floats = np.clip(0.5 - field * item.radius * size / soft, 0, 1)[..., None]
    return cover.astype(np.float32)


def main() -> None:
    """Write the pictures and examples.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("assets/examples"))
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    paint(CIRCLES, (244, 247, 252), (222, 232, 246)).save(out / "circles.png", optimize=True)
    paint(GARDEN, (252, 249, 238), (246, 236, 214)).save(out / "garden.png", optimize=True)
    paint(NIGHT, (30, 24, 66), (70, 40, 116)).save(out / "night.png", optimize=True)
    text = json.dumps(list(EXAMPLES), indent=2, ensure_ascii=False) + "\n"
    (out / "examples.json").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
