"""Pictures as the library is given them: PNG in a URL, the same bytes for the same picture every time."""

from __future__ import annotations

import base64
import io
from collections import OrderedDict
from dataclasses import dataclass

from PIL import Image

from backends.errors import ImageUnreadable
from backends.messages import ImagePart
from backends.models.gguf_header import GgufHeader
from backends.text import Text

_KEPT_BYTES = 64 * 1024 * 1024
# How a picture of another shape becomes a square: a key that our own conversions write. Files without it were
# made for the original LLaVA, which was trained on pictures padded with CLIP's mean colour.
FIT_KEY = "snug.picture.fit"
_PADDING = (122, 116, 104)
_FIXED = frozenset({"mlp", "mlp_norm"})


@dataclass(frozen=True, slots=True)
class Geometry:
    """`side` is the square that the tower takes, None where the library fits pictures itself.

    `fit`: "pad" to a square, "crop" the middle out of the resized picture, or "stretch" it.
    """

    side: int | None
    fit: str = "pad"


def picture_geometry(header: GgufHeader) -> Geometry:
    """Read it from an mmproj file: one square a picture for LLaVA-1.5's kind without tiles."""
    kind = header.text("clip.projector_type") or header.text("clip.vision.projector_type") or "mlp"
    side = header.number("clip.vision.image_size")
    tiles = "clip.vision.image_grid_pinpoints" in (*header.values, *header.lengths)
    if kind not in _FIXED or side is None or tiles:
        return Geometry(None)
    fit = header.text(FIT_KEY)
    return Geometry(side, fit if fit in ("crop", "stretch") else "pad")


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
                fitted = fit_picture(image.convert("RGB"), self.geometry)
        except (OSError, ValueError) as error:
            raise ImageUnreadable(
                name=picture.path.name, detail=Text("image.lost_copy", "Its stored copy is gone or broken.")
            ) from error
        return data_url(fitted)


def fit_picture(image: Image.Image, geometry: Geometry) -> Image.Image:
    """The square that the tower takes, as the model's training made it; unchanged without one."""
    side = geometry.side
    if side is None:
        return image
    if geometry.fit == "stretch" or image.width == image.height:
        return image.resize((side, side), Image.Resampling.BICUBIC)
    if geometry.fit == "crop":
        scale = side / min(image.size)
        width, height = (max(side, int(edge * scale)) for edge in image.size)
        left, top = (width - side) // 2, (height - side) // 2
        return image.resize((width, height), Image.Resampling.BICUBIC).crop(
            (left, top, left + side, top + side)
        )
    longest = max(image.size)
    square = Image.new("RGB", (longest, longest), _PADDING)
    square.paste(image, ((longest - image.width) // 2, (longest - image.height) // 2))
    return square.resize((side, side), Image.Resampling.BICUBIC)


def data_url(image: Image.Image) -> str:
    """`image` as PNG within a URL."""
    held = io.BytesIO()
    image.save(held, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode("ascii")
