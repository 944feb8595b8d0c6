"""Read pictures once: their tokens and pixels for the prompt, their features for the model."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from backends.errors import ImageUnreadable
from backends.images import on_white
from backends.messages import ImagePart
from backends.text import Text

_PIXELS_KEPT = 16
_FEATURE_BYTES = 64 * 1024 * 1024
_NOT_FOR_THE_TOWER = frozenset({"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"})


@dataclass(frozen=True, slots=True)
class ReadPicture:
    """A picture as its model takes it: `ids` stand for it in the prompt, `inputs` go to the vision tower."""

    sha256: str
    path: str
    ids: tuple[int, ...]
    inputs: dict[str, Any]


class PictureReader:
    """Prepares pictures with the model's own processor and keeps the most recent ones.

    `beneath` as in `open_picture`.
    """

    def __init__(self, processor: Any, image_token: str, placeholder: int, *, beneath: bool = False) -> None:
        self._processor = processor
        self._beneath = beneath
        self.token = image_token
        self.placeholder = placeholder
        self._kept: OrderedDict[str, ReadPicture] = OrderedDict()

    def read(self, picture: ImagePart) -> ReadPicture:
        """Pixels and prompt tokens of `picture`. Raises ImageUnreadable when its file is gone or broken."""
        found = self._kept.pop(picture.sha256, None) or self._prepare(picture)
        self._kept[picture.sha256] = found
        while len(self._kept) > _PIXELS_KEPT:
            self._kept.popitem(last=False)
        return found

    def _prepare(self, picture: ImagePart) -> ReadPicture:
        image = open_picture(picture, beneath=self._beneath)
        made = self._processor(
            text=[self.token], images=[image], return_tensors="pt", add_special_tokens=False
        )
        inputs = {key: value for key, value in made.items() if key not in _NOT_FOR_THE_TOWER}
        return ReadPicture(picture.sha256, str(picture.path), tuple(made["input_ids"][0].tolist()), inputs)


def open_picture(picture: ImagePart, *, beneath: bool = False) -> Image.Image:
    """Decode the stored PNG, what is transparent on white, or with the colours `beneath`.

    Raises ImageUnreadable.
    """
    try:
        with Image.open(picture.path) as image:
            return image.convert("RGB") if beneath else on_white(image)
    except (OSError, ValueError) as error:
        raise ImageUnreadable(
            name=picture.path.name, detail=Text("image.lost_copy", "Its stored copy is gone or broken.")
        ) from error


class FeatureStore:
    """Image features by the digest of their picture, the least recently used dropped beyond 64 MB."""

    def __init__(self, model: Any, dtype: torch.dtype, device: torch.device) -> None:
        self._model = model
        self._dtype = dtype
        self._device = device
        self._kept: OrderedDict[str, torch.Tensor] = OrderedDict()

    def features(self, picture: ReadPicture) -> torch.Tensor:
        """[placeholder tokens, hidden] of `picture`, computed by the model's own tower and projector."""
        found = self._kept.pop(picture.sha256, None)
        if found is None:
            found = self._compute(picture)
        self._kept[picture.sha256] = found
        while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > _FEATURE_BYTES:
            self._kept.popitem(last=False)
        return found

    def _compute(self, picture: ReadPicture) -> torch.Tensor:
        inputs = {
            key: value.to(self._device, self._dtype if value.is_floating_point() else None)
            if isinstance(value, torch.Tensor)
            else value
            for key, value in picture.inputs.items()
        }
        output = self._model.get_image_features(**inputs, return_dict=True).pooler_output
        pieces = [output] if isinstance(output, torch.Tensor) else list(output)
        return torch.cat([piece.reshape(-1, piece.shape[-1]) for piece in pieces])
