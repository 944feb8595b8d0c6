"""Pictures as CogVLM looks at them: squeezed to a square with Pillow, in the colours that CLIP expects."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from PIL import Image

from backends.engines.originals.resizing import resized
from backends.engines.pictures import ReadPicture, open_picture
from backends.messages import ImagePart

# Mean and deviation of red, green and blue over the pictures that CLIP was trained on.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
_KEPT = 4


class CogVLMPictures:
    """Prepares pictures, each for `tokens` placeholders, and keeps the most recent ones."""

    def __init__(self, side: int, tokens: int, placeholder: int) -> None:
        self._side = side
        self._ids = (placeholder,) * tokens
        self._kept: OrderedDict[str, ReadPicture] = OrderedDict()

    def read(self, picture: ImagePart) -> ReadPicture:
        """Pixels and placeholders of `picture`. Raises ImageUnreadable when its file is gone or broken."""
        found = self._kept.pop(picture.sha256, None)
        if found is None:
            pixels = pixel_values(open_picture(picture, beneath=True), self._side)[None]
            found = ReadPicture(picture.sha256, str(picture.path), self._ids, {"pixel_values": pixels})
        self._kept[picture.sha256] = found
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found


def pixel_values(image: Image.Image, side: int) -> torch.Tensor:
    """An RGB picture -> [3, side, side] in float32."""
    square = resized(image, (side, side))
    colours = torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous().float().div_(255)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
    return colours.sub_(mean).div_(deviation)
