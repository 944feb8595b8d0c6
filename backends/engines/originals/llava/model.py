"""The classes that compute an original LLaVA: transformers' own, with another projector where needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import LlavaForConditionalGeneration, LlavaNextForConditionalGeneration


class StackedProjector(nn.Module):
    """`depth` linear layers with GELU between them; none at all hand the features on as they are."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.depth = config.projector_depth
        wide = config.text_config.hidden_size
        for number in range(1, self.depth + 1):
            narrow = config.vision_config.hidden_size if number == 1 else wide
            self.add_module(f"linear_{number}", nn.Linear(narrow, wide))

    def forward(self, image_features: torch.Tensor) -> torch.Tensor:
        """[..., vision width] -> [..., text width]."""
        for number in range(1, self.depth + 1):
            if number > 1:
                image_features = nn.functional.gelu(image_features)
            image_features = self.get_submodule(f"linear_{number}")(image_features)
        return image_features


class StackedLlava(LlavaForConditionalGeneration):
    """LLaVA with a projector of another depth than two."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model.multi_modal_projector = StackedProjector(config)


class StackedLlavaNext(LlavaNextForConditionalGeneration):
    """LLaVA 1.6 with a projector of another depth than two."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model.multi_modal_projector = StackedProjector(config)


def model_class(config: Mapping[str, Any]) -> type[Any]:
    """The class for a recipe's native config."""
    stacked = config.get("projector_depth", 2) != 2
    if config["model_type"] == "llava_next":
        return StackedLlavaNext if stacked else LlavaNextForConditionalGeneration
    return StackedLlava if stacked else LlavaForConditionalGeneration
