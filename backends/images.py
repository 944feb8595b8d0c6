"""Pictures as people have them -> PNG files of 8-bit RGB named by content, or a clear error.

Every picture is decoded once, here: limits are checked on the header before any pixel is decoded, the
camera's orientation is applied, 16-bit and CMYK become 8-bit RGB, an animation gives its first frame.
Transparency is stored with it: most models see it on white, as a person does (`on_white`), those in their
authors' own layout see the colours beneath, as their authors' code does. What is stored carries no metadata
(no GPS position).
"""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from backends.errors import ImageTooLarge, ImageUnreadable
from backends.messages import ImagePart
from backends.settings import Settings
from backends.storage import storage_error
from backends.text import Text

# Formats that Pillow decodes without running other programs; PostScript (EPS) would start Ghostscript.
# Pictures of several views (MPO) are opened as JPEG.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "ICO", "PPM", "JPEG2000", "TGA")

_EMPTY = Text("image.empty", "The file is empty.")
_NOT_A_PICTURE = Text("image.not_a_picture", "Its content is not a picture format that Snug knows.")
_DAMAGED = Text("image.damaged", "The file is damaged or cut short.")


def import_image(source: Path | bytes, name: str, settings: Settings) -> ImagePart:
    """Decode `source`, store it as PNG under `settings.images` and return its part.

    Larger sides than `settings.max_image_side` are scaled down: no model of today looks closer.
    Raises `ImageUnreadable`, `ImageTooLarge`, `DiskFull` or `FolderReadOnly`.
    """
    picture = _scaled(_decode(_read(source, name, settings), name, settings), settings.max_image_side)
    shape = f"{picture.width}x{picture.height}:{'' if picture.mode == 'RGB' else picture.mode}"
    digest = hashlib.sha256(shape.encode() + picture.tobytes()).hexdigest()
    target = settings.images / f"{digest}.png"
    if not target.exists():
        _store(picture, target)
    return ImagePart(path=target, sha256=digest, width=picture.width, height=picture.height)


def _read(source: Path | bytes, name: str, settings: Settings) -> bytes:
    if isinstance(source, bytes):
        data = source
    else:
        try:
            with source.open("rb") as file:
                # One byte past the limit is enough to know; a file can grow while it is read.
                data = file.read(settings.max_image_bytes + 1)
        except OSError as error:
            cause = error.strerror or type(error).__name__
            detail = Text.of("image.closed", "The file can't be opened: {cause}.", cause=cause)
            raise ImageUnreadable(name=name, detail=detail) from error
    if not data:
        raise ImageUnreadable(name=name, detail=_EMPTY)
    if len(data) > settings.max_image_bytes:
        # Of a file only the first byte past the limit was read.
        raise _too_large(name, Text("image.long_file", "The file holds too many bytes"), settings)
    return data


def _too_large(name: str, size: Text, settings: Settings) -> ImageTooLarge:
    return ImageTooLarge(
        name=name,
        size=size,
        limit_megapixels=settings.max_image_pixels // 1_000_000,
        limit_bytes=settings.max_image_bytes,
    )


def _pixels(picture: Image.Image | None, error: Exception | None = None) -> Text:
    """How large a picture is: its sides, or the number of pixels that Pillow names in its refusal."""
    if picture is not None:
        return Text.of(
            "image.sides", "It has {width} x {height} pixels", width=picture.width, height=picture.height
        )
    counted = re.search(r"\((\d+) pixels\)", str(error))
    if counted is None:
        return Text("image.many_pixels", "It has more pixels than there is memory for")
    return Text.of(
        "image.megapixels", "It has {megapixels} megapixels", megapixels=round(int(counted[1]) / 1_000_000)
    )


def _decode(data: bytes, name: str, settings: Settings) -> Image.Image:
    with warnings.catch_warnings():
        # Our own limit is stricter and has its own message.
        warnings.simplefilter("ignore")
        picture: Image.Image | None = None
        try:
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
            if picture.width * picture.height > settings.max_image_pixels:
                raise _too_large(name, _pixels(picture), settings)
            # A JPEG can be decoded at a fraction of its size, which keeps huge photos quick and small.
            picture.draft("RGB", (settings.max_image_side, settings.max_image_side))
            picture.load()
        except ImageTooLarge:
            raise
        except Image.DecompressionBombError as error:
            raise _too_large(name, _pixels(None, error), settings) from error
        except UnidentifiedImageError as error:
            raise ImageUnreadable(name=name, detail=_NOT_A_PICTURE) from error
        except MemoryError as error:
            raise _too_large(name, _pixels(picture), settings) from error
        except Exception as error:
            # Pillow's decoders raise nearly anything on broken data. TGA has no signature: other files pass
            # for one until their pixels are looked for.
            unsigned = picture is not None and picture.format == "TGA"
            raise ImageUnreadable(name=name, detail=_NOT_A_PICTURE if unsigned else _DAMAGED) from error
        return _to_8_bit_colours(picture)


def _to_8_bit_colours(picture: Image.Image) -> Image.Image:
    try:
        upright = ImageOps.exif_transpose(picture)
    except Exception:  # noqa: BLE001 - a broken EXIF block must not hide a good picture
        upright = picture
    if upright.mode in {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}:
        return _to_8_bit(upright).convert("RGB")
    return upright.convert("RGBA" if upright.has_transparency_data else "RGB")


def on_white(picture: Image.Image) -> Image.Image:
    """A stored picture in RGB, as it looks on a white page."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    rgba = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _to_8_bit(picture: Image.Image) -> Image.Image:
    """Scale one-channel pictures of more than 8 bits; Pillow's own conversion clips at 255."""
    pixels = np.nan_to_num(np.asarray(picture, dtype=np.float32))
    low, high = float(pixels.min()), float(pixels.max())
    if picture.mode != "F":
        # Integers keep their absolute brightness, whatever the brightest pixel is.
        low, high = 0.0, 65535.0 if high > 255 else 255.0
    scaled = (pixels - low) * (255.0 / max(high - low, 1e-12))
    return Image.fromarray(scaled.clip(0, 255).round().astype(np.uint8))


def _scaled(picture: Image.Image, side: int) -> Image.Image:
    if max(picture.size) <= side:
        return picture
    factor = side / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _store(picture: Image.Image, target: Path) -> None:
    """Write beside the target, then rename: a reader never sees half a file."""
    temporary: str | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".part", delete=False) as file:
            temporary = file.name
            picture.save(file, format="PNG", compress_level=1)
        Path(temporary).replace(target)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        if target.exists():
            return  # another tab stored the same picture meanwhile; Windows refuses to replace an open file
        raise storage_error(
            error, target.parent, picture.width * picture.height * len(picture.mode)
        ) from error
