"""Pictures as the original LLaVA prepares them: padded to a square, in tiles, or cut to a square."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from backends.engines.originals.resizing import resized
from backends.models.originals.llava_config import pinpoints

# Settings of preprocessor_config.json that CLIP's processor takes.
_CLIP_SETTINGS = (
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor"),
    *("do_normalize", "image_mean", "image_std", "do_convert_rgb"),
)
_FROM_256 = 255
# How far a picture's stated sides may be moved for the same crop, in pixels.
_NUDGES = sorted(
    ((down, right) for down in range(-4, 5) for right in range(-4, 5)),
    key=lambda move: abs(move[0]) + abs(move[1]),
)


class LlavaPictures:
    """A picture -> what the native class's `get_image_features` takes, and as many placeholders as it gives.

    Called as transformers' processors are, with one picture. `settings` are a recipe's `pictures`, `config`
    its native config.
    """

    def __init__(self, settings: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self._clip = CLIPImageProcessorPil(
            **{key: settings[key] for key in _CLIP_SETTINGS if key in settings}
        )
        self._aspect = settings.get("image_aspect_ratio")
        self._sizes = pinpoints(settings, Path()) if self._aspect == "anyres" else []
        self._tiled = config["model_type"] == "llava_next"
        self._placeholder = config["image_token_index"]
        vision = config["vision_config"]
        self._side = vision["image_size"]
        self._patches = vision["image_size"] // vision["patch_size"]
        self._per_tile = self._patches**2 + (config["vision_feature_select_strategy"] == "full")

    def __call__(self, images: Sequence[Image.Image], **_: Any) -> dict[str, torch.Tensor]:
        """`input_ids` [1, placeholders] of the one picture, and its `pixel_values`."""
        image = images[0].convert("RGB")
        pixels = self._pixels(image)
        if not self._tiled:
            return self._made(len(pixels) * self._per_tile, pixels)
        tiles = Tiles.of(image.size, self._sizes, self._side, self._patches)
        sides = torch.tensor([tiles.sides_for_native()[::-1]])
        count = self._per_tile + tiles.features
        return self._made(count, pixels.unsqueeze(0)) | {"image_sizes": sides}

    def _made(self, count: int, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.full((1, count), self._placeholder), "pixel_values": pixels}

    def _pixels(self, image: Image.Image) -> torch.Tensor:
        """Pixels [crops, 3, side, side]."""
        if self._aspect == "anyres":
            crops = self._in_tiles(image)
        elif self._aspect == "pad":
            crops = [_padded(image, tuple(int(mean * _FROM_256) for mean in self._clip.image_mean))]
        else:
            crops = [image]
        made = [self._clip(self._resized(crop), return_tensors="np")["pixel_values"][0] for crop in crops]
        return torch.from_numpy(np.stack(made).astype(np.float32))

    def _in_tiles(self, image: Image.Image) -> list[Image.Image]:
        """The whole picture squashed to a square, then its tiles, row by row."""
        width, height = best_size(image.size, self._sizes)
        scale = min(width / image.width, height / image.height)
        if width / image.width < height / image.height:
            inner = (width, min(math.ceil(image.height * scale), height))
        else:
            inner = (min(math.ceil(image.width * scale), width), height)
        canvas = Image.new("RGB", (width, height))
        canvas.paste(resized(image, inner), ((width - inner[0]) // 2, (height - inner[1]) // 2))
        side = self._tile_side()
        tiles = [
            canvas.crop((left, top, left + side, top + side))
            for top in range(0, height, side)
            for left in range(0, width, side)
        ]
        edge = self._clip.size["shortest_edge"] or self._side
        return [resized(image, (edge, edge)), *tiles]

    def _resized(self, crop: Image.Image) -> Image.Image:
        """With its shorter side as long as CLIP's processor makes it, which then leaves it as it is."""
        edge = self._clip.size["shortest_edge"]
        if not self._clip.do_resize or not edge or edge == min(crop.size):
            return crop
        long = int(edge * max(crop.size) / min(crop.size))
        size = (edge, long) if crop.width <= crop.height else (long, edge)
        return resized(crop, size, self._clip.resample)

    def _tile_side(self) -> int:
        crop = self._clip.crop_size
        return int(crop["height"] or self._side)


@dataclass(frozen=True, slots=True)
class Tiles:
    """The map of features of a picture's tiles: `columns` x `rows` patches, only the picture's kept.

    `picture` and `size` are width and height in pixels, of the picture and of what its tiles fill.
    """

    picture: tuple[int, int]
    sizes: tuple[tuple[int, int], ...]
    size: tuple[int, int]
    columns: int
    rows: int

    @classmethod
    def of(cls, picture: tuple[int, int], sizes: Sequence[tuple[int, int]], side: int, patches: int) -> Tiles:
        """Tiles of `side` pixels with `patches` patches a side."""
        size = best_size(picture, sizes)
        columns, rows = (length // side * patches for length in size)
        return cls(picture, tuple(sizes), size, columns, rows)

    @property
    def features(self) -> int:
        """Features of the picture's part of the map, one more for every row's end."""
        columns, rows = self._kept(self.picture, _truncated)
        return rows * (columns + 1)

    def sides_for_native(self) -> tuple[int, int]:
        """The width and height with which the native class keeps the same part of the map.

        It rounds where the original cuts off 23.999...; sides a pixel away then give what the original gives.
        """
        kept = self._kept(self.picture, _truncated)
        for wider, higher in _NUDGES:
            sides = (self.picture[0] + wider, self.picture[1] + higher)
            if min(sides) < 1 or best_size(sides, self.sizes) != self.size:
                continue
            if self._kept(sides, _rounded) == kept:
                return sides
        return self.picture

    def _kept(self, picture: tuple[int, int], whole: Any) -> tuple[int, int]:
        """Columns and rows without the padding on both sides."""
        width, height = picture
        if width / height > self.columns / self.rows:
            rows = whole(height * (self.columns / width))
            return self.columns, self.rows - 2 * ((self.rows - rows) // 2)
        columns = whole(width * (self.rows / height))
        return self.columns - 2 * ((self.columns - columns) // 2), self.rows


def best_size(picture: tuple[int, int], sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The size (width, height) of `sizes` that keeps most of the picture's pixels, then wastes least."""
    best, best_kept, best_waste = sizes[0], 0, math.inf
    for width, height in sizes:
        scale = min(width / picture[0], height / picture[1])
        kept = min(int(picture[0] * scale) * int(picture[1] * scale), picture[0] * picture[1])
        waste = width * height - kept
        if kept > best_kept or (kept == best_kept and waste < best_waste):
            best, best_kept, best_waste = (width, height), kept, waste
    return best


def _padded(image: Image.Image, colour: tuple[int, ...]) -> Image.Image:
    """On a square of `colour`, in the middle."""
    if image.width == image.height:
        return image
    side = max(image.size)
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def _truncated(length: float) -> int:
    return int(length)


def _rounded(length: float) -> int:
    return int(round(length, 7))
