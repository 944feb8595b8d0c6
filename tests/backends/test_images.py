"""Pictures as people have them: what can be read is read correctly, what can't is explained."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backends.errors import FolderReadOnly, ImageTooLarge, ImageUnreadable
from backends.images import import_image, on_white
from backends.settings import Settings

RED = (220, 30, 40)
WHITE = (255, 255, 255)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path / "家 with spaces",
        model_folders=(),
        starter=tmp_path,
        examples=tmp_path,
        max_image_pixels=4_000_000,
        max_image_bytes=1_000_000,
        max_image_side=512,
    )


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=form, **options)
    return buffer.getvalue()


def half_red(mode: str = "RGB") -> Image.Image:
    """Left half red, right half white, 80 x 40."""
    picture = Image.new("RGB", (80, 40), WHITE)
    picture.paste(RED, (0, 0, 40, 40))
    return picture.convert(mode)


def stored(data: bytes, settings: Settings) -> Image.Image:
    part = import_image(data, "picture", settings)
    with Image.open(part.path) as file:
        file.load()
        picture = file.copy()
    assert picture.mode in ("RGB", "RGBA")
    assert picture.size == (part.width, part.height)
    return picture


def near(pixel: object, colour: tuple[int, int, int], tolerance: int = 12) -> bool:
    return bool(np.abs(np.subtract(pixel, colour)).max() <= tolerance)


def transparent() -> bytes:
    picture = Image.new("RGBA", (80, 40), (0, 0, 0, 0))
    picture.paste((*RED, 255), (0, 0, 40, 40))
    return encoded(picture, "PNG")


def palette_with_transparency() -> bytes:
    picture = half_red().quantize(4)
    return encoded(picture, "PNG", transparency=picture.getpixel((60, 20)))


def rotated_by_camera() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: rotate by 90 degrees to the right
    return encoded(half_red().rotate(90, expand=True), "JPEG", exif=exif, quality=95)


def animated() -> bytes:
    frames = [half_red(), Image.new("RGB", (80, 40), (0, 0, 255))]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)


def wide_channels() -> bytes:
    gray = np.full((40, 80), 65535, np.uint16)
    gray[:, :40] = 65535 // 4
    return encoded(Image.fromarray(gray), "PNG")


@pytest.mark.parametrize(
    ("name", "data", "left", "right"),
    [
        ("PNG", encoded(half_red(), "PNG"), RED, WHITE),
        ("JPEG", encoded(half_red(), "JPEG", quality=95), RED, WHITE),
        ("CMYK JPEG", encoded(half_red("CMYK"), "JPEG", quality=95), RED, WHITE),
        ("gray JPEG", encoded(half_red("L"), "JPEG", quality=95), (88, 88, 88), WHITE),
        ("WebP", encoded(half_red(), "WEBP", lossless=True), RED, WHITE),
        ("TIFF", encoded(half_red(), "TIFF"), RED, WHITE),
        ("BMP", encoded(half_red(), "BMP"), RED, WHITE),
        ("PPM", encoded(half_red(), "PPM"), RED, WHITE),
        ("AVIF", encoded(half_red(), "AVIF", quality=95), RED, WHITE),
        ("JPEG 2000", encoded(half_red(), "JPEG2000"), RED, WHITE),
        ("several views", encoded(half_red(), "MPO", save_all=True, append_images=[half_red()]), RED, WHITE),
        ("TGA", encoded(half_red(), "TGA"), RED, WHITE),
        ("palette", encoded(half_red().quantize(4), "PNG"), RED, WHITE),
        ("transparent shows white", transparent(), RED, WHITE),
        ("transparent palette shows white", palette_with_transparency(), RED, WHITE),
        ("animated gives its first frame", animated(), RED, WHITE),
        ("16 bits a channel keep their brightness", wide_channels(), (64, 64, 64), WHITE),
        ("rotated by the camera stands upright", rotated_by_camera(), RED, WHITE),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_reads(
    name: str, data: bytes, left: tuple[int, int, int], right: tuple[int, int, int], settings: Settings
) -> None:
    picture = on_white(stored(data, settings))
    assert picture.size == (80, 40), name
    assert near(picture.getpixel((20, 20)), left), name
    assert near(picture.getpixel((60, 20)), right), name


def test_what_is_transparent_keeps_the_colours_beneath(settings: Settings) -> None:
    picture = stored(transparent(), settings)
    assert picture.mode == "RGBA"
    assert picture.convert("RGB").getpixel((60, 20)) == (0, 0, 0)
    assert on_white(picture).getpixel((60, 20)) == WHITE


def test_the_same_colours_with_and_without_transparency_are_two_pictures(settings: Settings) -> None:
    clear = Image.new("RGBA", (8, 8), (9, 9, 9, 0))
    plain = clear.convert("RGB")
    digests = {import_image(encoded(one, "PNG"), "a", settings).sha256 for one in (clear, plain)}
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("empty", b"", ImageUnreadable),
        ("text", b"I am not a picture", ImageUnreadable),
        ("cut short", encoded(half_red(), "PNG")[:90], ImageUnreadable),
        ("cut short JPEG", encoded(half_red(), "JPEG")[:300], ImageUnreadable),
        ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", ImageUnreadable),
        ("too many pixels", encoded(Image.new("1", (30_000, 30_000)), "PNG"), ImageTooLarge),
        ("too many bytes", b"\x89PNG" + b"0" * 1_000_001, ImageTooLarge),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses(name: str, data: bytes, error: type[Exception], settings: Settings) -> None:
    with pytest.raises(error, match="holiday"):
        import_image(data, "holiday.png", settings)
    assert not list(settings.images.glob("*")), name


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            encoded(Image.new("1", (30_000, 30_000)), "PNG"),
            "It has 900 megapixels; the limit is 4 megapixels",
        ),
        (
            encoded(Image.new("1", (3_000, 2_000)), "PNG"),
            "It has 3000 x 2000 pixels; the limit is 4 megapixels",
        ),
        (b"\x89PNG" + b"0" * 1_000_001, "The file holds too many bytes; the limit is"),
        (b"I am only words, in a file that is called a picture.", "not a picture format"),
        (encoded(half_red(), "TGA")[:500], "not a picture format"),
        (encoded(half_red(), "PNG")[:90], "damaged or cut short"),
    ],
    ids=["far too large", "too large", "too long", "words", "half a TGA", "half a PNG"],
)
def test_why_a_picture_is_refused(data: bytes, says: str, settings: Settings) -> None:
    with pytest.raises((ImageTooLarge, ImageUnreadable), match=says):
        import_image(data, "holiday.png", settings)


def test_a_missing_file_is_explained(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ImageUnreadable, match="No such file"):
        import_image(tmp_path / "gone.png", "gone.png", settings)


def test_large_pictures_are_scaled_down_and_keep_their_shape(settings: Settings) -> None:
    picture = stored(encoded(Image.new("RGB", (1600, 400), RED), "PNG"), settings)
    assert picture.size == (512, 128)


def test_the_digest_is_of_the_content_and_not_of_the_file(settings: Settings) -> None:
    png = import_image(encoded(half_red(), "PNG"), "a.png", settings)
    bmp = import_image(encoded(half_red(), "BMP"), "b.bmp", settings)
    other = import_image(encoded(half_red().transpose(Image.Transpose.ROTATE_180), "PNG"), "c.png", settings)
    assert png == bmp
    assert png.sha256 != other.sha256
    assert len(list(settings.images.iterdir())) == 2


def test_the_same_pixels_in_another_shape_are_another_picture(settings: Settings) -> None:
    wide = import_image(encoded(Image.new("RGB", (80, 40), RED), "PNG"), "a", settings)
    tall = import_image(encoded(Image.new("RGB", (40, 80), RED), "PNG"), "b", settings)
    assert wide.sha256 != tall.sha256


def test_what_is_stored_carries_no_metadata(settings: Settings) -> None:
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    part = import_image(encoded(half_red(), "JPEG", exif=exif), "a.jpg", settings)
    assert b"SecretCamera" not in part.path.read_bytes()


def test_a_home_that_is_a_file_is_explained(settings: Settings) -> None:
    settings.home.parent.mkdir(exist_ok=True)
    settings.home.write_text("in the way", encoding="utf-8")
    with pytest.raises(FolderReadOnly, match="SNUG_HOME"):
        import_image(encoded(half_red(), "PNG"), "a.png", settings)


def test_another_tab_may_store_the_same_picture_at_the_same_time(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses to replace a file that a model is reading; what is there has the same content."""
    stored = Path.replace

    def stored_by_another(self: Path, target: Path) -> Path:
        stored(self, target)
        raise PermissionError(13, "in use")

    monkeypatch.setattr(Path, "replace", stored_by_another)
    part = import_image(encoded(half_red(), "PNG"), "a.png", settings)
    with Image.open(part.path) as picture:
        assert picture.size == (80, 40)
    assert [file.name for file in settings.images.iterdir()] == [part.path.name]
