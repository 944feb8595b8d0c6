"""Resizing whose result does not depend on Pillow's version."""

from __future__ import annotations

from PIL import Image


def resized(
    image: Image.Image, size: tuple[int, int], resample: int = Image.Resampling.BICUBIC
) -> Image.Image:
    """`image` in `size` (width, height), as Pillow 13 does it.

    Both passes, along the rows and along the columns, round to 8 bits, so that their order shows. Pillow 13
    begins with the columns where these shrink by more than twice as many pixels as the rows (its
    ImagingResampleInner); earlier ones always begin with the rows. The original models' results that Snug is
    compared with come from Pillow 13; one pass at a time gives its order in every version.
    """
    width, height = size
    way = Image.Resampling(resample)
    if image.height - height > max(0, (image.width - width) * 2):
        image = image.resize((image.width, height), way)
    return image.resize(size, way)
