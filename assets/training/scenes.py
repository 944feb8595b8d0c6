"""Draw simple pictures of coloured shapes, and say exactly what is in them.

A `Scene` is the truth (what, where, how big); `draw` turns it into pixels with numpy alone, about
a millisecond at 128 x 128, by evaluating a signed distance field per shape (negative inside), so
edges are antialiased at any size. Coordinates are fractions of the picture: x to the right, y
down, sizes relative to the shorter side.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.floating[Any]]
Pixels = NDArray[np.uint8]

SHAPES = ("circle", "square", "rectangle", "triangle", "star", "heart", "cross", "diamond")
COLOURS = (
    "red",
    "orange",
    "yellow",
    "green",
    "teal",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
    "gray",
)
# A few typical RGB values of each name; a sample is a random mix of them plus a small jitter.
PALETTE: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((255, 0, 0), (220, 20, 30), (200, 0, 20), (235, 50, 45)),
    "orange": ((255, 140, 0), (255, 120, 10), (245, 150, 40)),
    "yellow": ((255, 255, 0), (250, 220, 0), (255, 235, 60)),
    "green": ((0, 255, 0), (0, 160, 40), (40, 180, 60), (30, 120, 30)),
    "teal": ((0, 128, 128), (0, 150, 150), (20, 140, 135)),
    "blue": ((0, 0, 255), (30, 60, 220), (20, 80, 200), (40, 110, 235)),
    "purple": ((128, 0, 160), (140, 40, 200), (110, 30, 140)),
    "pink": ((255, 130, 190), (255, 105, 180), (250, 160, 200)),
    "brown": ((165, 42, 42), (120, 70, 30), (140, 80, 40), (100, 60, 30)),
    "black": ((0, 0, 0), (25, 25, 28), (10, 10, 15)),
    "white": ((255, 255, 255), (245, 245, 245), (250, 248, 244)),
    "gray": ((128, 128, 128), (150, 150, 150), (110, 112, 115)),
}
TRAIN_BACKDROPS = ("plain", "plain", "gradient", "clouds", "stripes")
HELD_OUT_BACKDROPS = ("plain", "checker", "dots", "radial")


@dataclass(frozen=True, slots=True)
class Item:
    """One shape: centre (x, y) and radius as fractions, angle in radians, long side / short."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    angle: float = 0.0
    stretch: float = 1.8


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows. `background` is None when its colour has no clear name."""

    items: tuple[Item, ...]
    background: str | None
    backdrop: str = "plain"
    aspect: float = 1.0


@dataclass(frozen=True, slots=True)
class Style:
    """The ranges that scenes are drawn from; training and held-out splits use different ones."""

    radius: tuple[float, float] = (0.08, 0.21)
    backdrops: tuple[str, ...] = TRAIN_BACKDROPS
    letterbox: float = 0.12
    canvas: tuple[int, ...] = (128, 128, 128, 110, 180, 256)


TRAIN_STYLE = Style()
HELD_OUT_STYLE = Style(
    radius=(0.07, 0.23), backdrops=HELD_OUT_BACKDROPS, letterbox=0.1, canvas=(96, 150, 224, 320)
)


def random_scene(
    rng: np.random.Generator,
    count: int,
    style: Style = TRAIN_STYLE,
    *,
    repeat: float = 0.3,
    alike: float = 0.3,
) -> Scene:
    """Place up to `count` shapes that do not touch.

    `repeat` is the chance that a shape takes after one before it, `alike` that it then has the
    same name and the same colour, not just one of them.
    Repeats of a colour, a shape or both are what make counting and telling apart worth asking.
    """
    background = None if rng.random() < 0.2 else str(rng.choice(COLOURS))
    aspect = 1.0
    if rng.random() < style.letterbox:
        aspect = float(np.exp(rng.uniform(-0.5, 0.5)))
    free = [name for name in COLOURS if not _clash(name, background)]
    items: list[Item] = []
    low, high = style.radius
    # Many shapes only fit when they are small.
    high = max(low * 1.15, min(high, 0.52 / math.sqrt(max(count, 1)) * 0.75))
    for _ in range(count):
        shape, colour = str(rng.choice(SHAPES)), str(rng.choice(free))
        if items and rng.random() < repeat:
            other = items[int(rng.integers(len(items)))]
            pick = rng.random()
            shape = other.shape if pick < 0.5 + alike / 2 else shape
            colour = other.colour if pick > 0.5 - alike / 2 else colour
        item = _place(rng, items, looks=(shape, colour), radii=(low, high), aspect=aspect)
        if item is not None:
            items.append(item)
    return Scene(tuple(items), background, str(rng.choice(style.backdrops)), aspect)


def _clash(colour: str, background: str | None) -> bool:
    """Whether a shape of this colour would be hard to see on that background."""
    if background is None:
        return colour == "white"
    groups: tuple[set[str], ...] = (
        {"red", "orange"},
        {"red", "brown"},
        {"orange", "brown"},
        {"orange", "yellow"},
    )
    groups += ({"teal", "green"}, {"teal", "blue"}, {"purple", "blue"}, {"purple", "pink"})
    groups += ({"gray", "teal"}, {"yellow", "white"}, {"brown", "black"}, {"pink", "red"})
    pair = {colour, background}
    return len(pair) == 1 or pair in groups


def _place(
    rng: np.random.Generator,
    others: list[Item],
    *,
    looks: tuple[str, str],
    radii: tuple[float, float],
    aspect: float,
) -> Item | None:
    """A free spot for one more shape, or None after 30 tries."""
    wide, tall = max(aspect, 1.0), max(1.0 / aspect, 1.0)
    for _ in range(30):
        radius = float(rng.uniform(*radii))
        reach = radius * 1.15
        x = float(rng.uniform(reach / wide, 1 - reach / wide))
        y = float(rng.uniform(reach / tall, 1 - reach / tall))
        if all(
            math.hypot((x - o.x) * wide, (y - o.y) * tall) > max(1.2 * (radius + o.radius), 0.2)
            for o in others
        ):
            return Item(*looks, x, y, radius, *_pose(rng, looks[0]))
    return None


def _pose(rng: np.random.Generator, shape: str) -> tuple[float, float]:
    """Angle and stretch that leave the shape's name beyond doubt."""
    if shape == "rectangle":
        angle = rng.normal(0, 0.15) + (math.pi / 2 if rng.random() < 0.4 else 0.0)
        return float(angle), float(rng.uniform(1.5, 2.4))
    limit = {"square": 0.16, "diamond": 0.12, "cross": 0.2, "heart": 0.35, "triangle": 0.5}
    return float(rng.uniform(-1, 1) * limit.get(shape, 3.1)), 1.8


def draw(scene: Scene, size: int, rng: np.random.Generator) -> Pixels:
    """The scene as (size, size, 3) uint8; a picture that is not square gets gray bars, as the
    processor would add them.
    """
    width = size if scene.aspect >= 1 else max(8, round(size * scene.aspect))
    height = size if scene.aspect <= 1 else max(8, round(size / scene.aspect))
    canvas = _backdrop(scene, width, height, rng)
    outline = rng.random() < 0.15
    for item in scene.items:
        _paint(canvas, item, rng, outline=outline)
    canvas = _wear(canvas, rng)
    out: Pixels = np.clip(canvas + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        out = jpeg(out, int(rng.integers(50, 96)))
    return letterboxed(out)


def letterboxed(pixels: Pixels) -> Pixels:
    """Pad to a square with the gray that `LlavaImageProcessor` uses (mean 0.5 -> 127)."""
    height, width = pixels.shape[:2]
    if height == width:
        return pixels
    size = max(height, width)
    square = np.full((size, size, 3), 127, np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    """The picture after one JPEG round trip."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))


def sample_rgb(rng: np.random.Generator, name: str) -> Floats:
    """A random RGB value (0..255) that people would call `name`."""
    points = np.asarray(PALETTE[name], np.float32)
    weights = rng.dirichlet(np.full(len(points), 0.5)).astype(np.float32)
    return np.clip(weights @ points + rng.normal(0, 4, 3), 0, 255).astype(np.float32)


def _backdrop(scene: Scene, width: int, height: int, rng: np.random.Generator) -> Floats:
    """Background (height, width, 3) float32; every variant stays within its colour's name."""
    if scene.background is None:
        base = rng.uniform(228, 256, 3).astype(np.float32)
    else:
        base = sample_rgb(rng, scene.background)
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(0, 1, width, dtype=np.float32)[None, :]
    depth = float(rng.uniform(4, 22))
    kind = scene.backdrop
    if kind == "gradient":
        turn = rng.uniform(0, 2 * math.pi)
        tone = (x - 0.5) * math.cos(turn) + (y - 0.5) * math.sin(turn)
    elif kind == "clouds":
        coarse = rng.normal(0, 90, (6, 6)).clip(-127, 127)
        image = Image.fromarray((coarse + 128).astype(np.uint8))
        tone = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        tone = tone / 255 - 0.5
    elif kind == "stripes":
        waves = rng.uniform(3, 14)
        tone = 0.5 * np.sin((x if rng.random() < 0.5 else y) * 2 * math.pi * waves)
    elif kind == "checker":
        cells = float(rng.integers(4, 12))
        tone = ((x * cells).astype(int) + (y * cells).astype(int)) % 2 * 0.7 - 0.35
    elif kind == "dots":
        cells = float(rng.integers(6, 14))
        tone = ((x * cells % 1 - 0.5) ** 2 + (y * cells % 1 - 0.5) ** 2 < 0.06) * 0.7 - 0.2
    elif kind == "radial":
        tone = 0.5 - np.hypot(x - 0.5, y - 0.5)
    else:
        tone = np.zeros((1, 1), np.float32)
    tone = np.broadcast_to(tone, (height, width))[..., None].astype(np.float32)
    return np.clip(base + depth * tone, 0, 255).astype(np.float32)


def _paint(canvas: Floats, item: Item, rng: np.random.Generator, *, outline: bool) -> None:
    """Blend one shape into `canvas`, touching only its bounding box."""
    height, width = canvas.shape[:2]
    radius = item.radius * min(height, width)
    cx, cy = item.x * width - 0.5, item.y * height - 0.5
    reach = radius * 1.5 + 2
    left, right = max(0, int(cx - reach)), min(width, int(cx + reach) + 2)
    top, bottom = max(0, int(cy - reach)), min(height, int(cy + reach) + 2)
    dx = ((np.arange(left, right, dtype=np.float32) - cx) / radius)[None, :]
    dy = ((np.arange(top, bottom, dtype=np.float32) - cy) / radius)[:, None]
    cos, sin = math.cos(item.angle), math.sin(item.angle)
    field = distance(item.shape, dx * cos + dy * sin, dy * cos - dx * sin, item.stretch) * radius
    alpha = np.clip(0.5 - field, 0, 1)[..., None]
    rgb = sample_rgb(rng, item.colour)
    fill = rgb + (dy[..., None] * rng.uniform(-8, 8)).astype(np.float32)
    if outline and item.colour not in ("white", "black"):
        edge = np.clip(field + max(1.5, 0.1 * radius), 0, 1)[..., None]
        fill = fill * (1 - 0.45 * edge)
    part = canvas[top:bottom, left:right]
    part += alpha * (fill - part)


def distance(shape: str, x: Floats, y: Floats, stretch: float = 1.8) -> Floats:
    """Signed distance (negative inside) to the unit shape, y pointing down.

    Exact for convex edges away from corners, which is all that antialiasing needs. Raises
    ValueError for a shape that nobody can draw.
    """
    if shape not in _FIELDS:
        raise ValueError(f"unknown shape: {shape}")
    return _FIELDS[shape](x, y, stretch)


def _circle(x: Floats, y: Floats, _stretch: float) -> Floats:
    return np.hypot(x, y) - 1


def _square(x: Floats, y: Floats, _stretch: float) -> Floats:
    return np.maximum(np.abs(x), np.abs(y)) - 0.87


def _rectangle(x: Floats, y: Floats, stretch: float) -> Floats:
    long, short = 0.87 * math.sqrt(stretch), 0.87 / math.sqrt(stretch)
    return np.maximum(np.abs(x) - long, np.abs(y) - short)


def _triangle(x: Floats, y: Floats, _stretch: float) -> Floats:
    side = np.abs(x) * math.sin(math.pi / 3) - y * math.cos(math.pi / 3)
    return np.maximum(y, side) - 0.62


def _diamond(x: Floats, y: Floats, _stretch: float) -> Floats:
    wide, tall = 0.75, 1.2
    return (np.abs(x) / wide + np.abs(y) / tall - 1) / math.hypot(1 / wide, 1 / tall)


def _cross(x: Floats, y: Floats, _stretch: float) -> Floats:
    ax, ay = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(ax - 1.05, ay - 0.36), np.maximum(ax - 0.36, ay - 1.05))


def _heart(x: Floats, y: Floats, _stretch: float) -> Floats:
    # Two discs on the upper edges of a square that stands on its corner.
    half = 0.84
    ax, ay = np.abs(x), y + 0.05
    lobe = np.hypot(ax - half / 2, ay + half / 2) - half / math.sqrt(2)
    field: Floats = np.minimum(lobe, (ax + np.abs(ay) - half) / math.sqrt(2))
    return field


def _star(x: Floats, y: Floats, _stretch: float) -> Floats:
    # Fold the plane into one tenth: an edge from the outer tip to the inner corner.
    sector = math.pi / 5
    angle = np.abs((np.arctan2(x, -y) + sector) % (2 * sector) - sector)
    reach = np.hypot(x, y)
    px, py = reach * np.cos(angle), reach * np.sin(angle)
    tip, inner = 1.22, 0.52
    ex, ey = inner * math.cos(sector) - tip, inner * math.sin(sector)
    return ((px - tip) * ey - py * ex) / math.hypot(ex, ey)


_FIELDS: dict[str, Callable[[Floats, Floats, float], Floats]] = {
    "circle": _circle,
    "square": _square,
    "rectangle": _rectangle,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "cross": _cross,
    "diamond": _diamond,
}


def _wear(canvas: Floats, rng: np.random.Generator) -> Floats:
    """What cameras and screenshots do to a picture: noise, blur, a change of brightness."""
    kind = rng.random()
    if kind < 0.35:
        height, width = canvas.shape[:2]
        sigma = float(rng.uniform(1, 10))
        canvas = canvas + rng.standard_normal((height, width, 1), dtype=np.float32) * sigma
    elif kind < 0.55:
        blurred = canvas.copy()
        blurred[1:-1] = (canvas[:-2] + 2 * canvas[1:-1] + canvas[2:]) / 4
        canvas = blurred
        canvas[:, 1:-1] = (blurred[:, :-2] + 2 * blurred[:, 1:-1] + blurred[:, 2:]) / 4
    return canvas
