"""Pictures as the library is given them: PNG in a URL, the same bytes for the same picture every time."""

from __future__ import annotations

import base64
import io
from collections import OrderedDict
from dataclasses import dataclass

from PIL import Image

from backends.errors import ImageUnreadable
from backends.images import on_white
from backends.messages import ImagePart
from backends.models.gguf_header import GgufHeader
from backends.text import Text

_KEPT_BYTES = 64 * 1024 * 1024
# How a picture of another shape becomes a square: keys that our own conversions write (conversion.fit). Files
# without them were made for the original LLaVA, which was trained on pictures padded with CLIP's mean colour.
_KEYS = "snug.picture."
_PADDING = (122, 116, 104)
_FIXED = frozenset({"mlp", "mlp_norm"})


@dataclass(frozen=True, slots=True)
class Geometry:
    """`side` is the square that the tower takes, None where the library fits pictures itself.

    `fit`: "pad" to a square of the colour `padding`, "crop" the middle out of the resized picture, or
    "stretch" it. Pictures are resized to `edge` (None: to `side`), of which the middle is taken.
    """

    side: int | None
    fit: str = "pad"
    padding: tuple[int, int, int] = _PADDING
    edge: int | None = None
    resampling: Image.Resampling = Image.Resampling.BICUBIC


def picture_geometry(header: GgufHeader) -> Geometry:
    """Read it from an mmproj file: one square a picture for LLaVA-1.5's kind without tiles."""
    kind = header.text("clip.projector_type") or header.text("clip.vision.projector_type") or "mlp"
    side = header.number("clip.vision.image_size")
    tiles = "clip.vision.image_grid_pinpoints" in (*header.values, *header.lengths)
    if kind not in _FIXED or side is None or tiles:
        return Geometry(None)
    fit, padding = header.text(_KEYS + "fit"), header.values.get(_KEYS + "padding")
    number = header.values.get(_KEYS + "filter")
    return Geometry(
        side,
        fit if fit in ("crop", "stretch") else "pad",
        _color(padding) or _PADDING,
        header.number(_KEYS + "edge"),
        next((one for one in Image.Resampling if one == number), Image.Resampling.BICUBIC),
    )


def _color(stated: object) -> tuple[int, int, int] | None:
    match stated:
        case (int(red), int(green), int(blue)) if all(0 <= one < 256 for one in (red, green, blue)):
            return red, green, blue
    return None


class PictureStore:
    """Prepares pictures once and keeps the most recent ones."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self._kept: OrderedDict[str, str] = OrderedDict()

    def url(self, picture: ImagePart) -> str:
        """A data URL of `picture`. Raises ImageUnreadable when its file is gone or broken."""
        found = self._kept.pop(picture.sha256, None) or self._prepare(picture)
        self._kept[picture.sha256] = found
        while len(self._kept) > 1 and sum(map(len, self._kept.values())) > _KEPT_BYTES:
            self._kept.popitem(last=False)
        return found

    def _prepare(self, picture: ImagePart) -> str:
        try:
            with Image.open(picture.path) as image:
                fitted = fit_picture(on_white(image), self.geometry)
        except (OSError, ValueError) as error:
            raise ImageUnreadable(
                name=picture.path.name, detail=Text("image.lost_copy", "Its stored copy is gone or broken.")
            ) from error
        return data_url(fitted)


def fit_picture(image: Image.Image, geometry: Geometry) -> Image.Image:
    """The square that the tower takes, as the model's training made it; unchanged without one.

    To the pixel what transformers' image processors make with Pillow.
    """
    side = geometry.side
    if side is None:
        return image
    edge = geometry.edge or side
    if geometry.fit == "crop":
        image = image.resize(_around(image.size, edge), geometry.resampling)
    else:
        square = _padded(image, geometry.padding) if geometry.fit == "pad" else image
        image = square.resize((edge, edge), geometry.resampling)
    left, top = ((length - side) // 2 for length in image.size)
    # What lies outside of the picture is black.
    return image.crop((left, top, left + side, top + side))


def _around(size: tuple[int, int], edge: int) -> tuple[int, int]:
    """`size` scaled so that its shorter side is `edge`, the longer one cut off to whole pixels."""
    width, height = size
    return (edge, int(edge * height / width)) if width <= height else (int(edge * width / height), edge)


def _padded(image: Image.Image, color: tuple[int, int, int]) -> Image.Image:
    longest = max(image.size)
    if image.width == image.height:
        return image
    square = Image.new("RGB", (longest, longest), color)
    square.paste(image, ((longest - image.width) // 2, (longest - image.height) // 2))
    return square


def data_url(image: Image.Image) -> str:
    """`image` as PNG within a URL."""
    held = io.BytesIO()
    image.save(held, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode("ascii")
