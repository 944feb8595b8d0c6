"""How many tokens a plan keeps room for: pictures, text around them, and the answer."""

from __future__ import annotations

from backends.errors import SettingInvalid
from backends.models.types import ModelInfo
from backends.placement.estimate import Workload
from backends.placement.types import Overrides
from backends.presets import QUESTION_TOKENS
from backends.text import Text

# Text of a conversation beside its pictures, and a long answer.
_TEXT_TOKENS, _ANSWER_TOKENS = 448, 1024
_LEAST_TOKENS, _MOST_TOKENS = 2048, 4096
# About a megapixel for a Qwen-VL: what its makers recommend for speed. A larger context raises it.
_DYNAMIC_TOKENS = 1282
# Room that a question and a short answer need beside the pictures.
_SPARE_TOKENS = QUESTION_TOKENS + 64
_ROUND_TO = 64
# Below this a picture is a smudge (about 230 x 230 pixels for a Qwen-VL).
LEAST_PICTURE_TOKENS = 66


def workload(model: ModelInfo, overrides: Overrides) -> Workload:
    """Derive the context: what pictures, text and answer need, at most 4,096 and the model's own limit.

    A context set by hand is taken as it is, and pictures of dynamic families are scaled into it. Raises
    SettingInvalid when the pictures can't fit beside a question and a short answer.
    """
    images = _images(model, overrides)
    most = model.text.max_context
    picture = _picture_tokens(model, overrides, images)
    pictures = images * picture
    if overrides.context_tokens is not None:
        context = overrides.context_tokens
    else:
        needed = max(_LEAST_TOKENS, pictures + _TEXT_TOKENS + _ANSWER_TOKENS)
        needed = -(-needed // _ROUND_TO) * _ROUND_TO
        # A picture that leaves no room below the usual limit gets the context it needs.
        limit = _MOST_TOKENS if pictures + 2 * _SPARE_TOKENS <= _MOST_TOKENS else needed
        context = min(needed, limit, most)
    # A model that is short itself can't be asked for more than it has beside one picture.
    spare = max(1, min(_SPARE_TOKENS, most - picture))
    if images and pictures + spare > context and _set_by_hand(overrides):
        raise SettingInvalid(
            name="context" if overrides.context_tokens is not None else "images",
            value=overrides.context_tokens if overrides.context_tokens is not None else images,
            detail=Text.of(
                "check.pictures",
                "Pictures of {picture:count} tokens each ({images}) leave {left:count} of {context:count} "
                "tokens, and a question with a short answer needs {spare:count}.",
                picture=picture,
                images=images,
                left=max(0, context - pictures),
                context=context,
                spare=spare,
            ),
            suggestion=Text("check.pictures_remedy", "Set a longer context or fewer pictures."),
        )
    return Workload(context, images, min(picture, context) if images else 0)


def _images(model: ModelInfo, overrides: Overrides) -> int:
    if model.vision is None:
        return 0
    return 1 if overrides.images is None else overrides.images


def _set_by_hand(overrides: Overrides) -> bool:
    return overrides.context_tokens is not None or overrides.images is not None


def _picture_tokens(model: ModelInfo, overrides: Overrides, images: int) -> int:
    vision = model.vision
    if vision is None:
        return 0
    if not vision.dynamic:
        return vision.tokens_per_image
    usual = min(vision.tokens_per_image, overrides.image_tokens or _DYNAMIC_TOKENS)
    limit = overrides.context_tokens or model.text.max_context
    room = (limit - _SPARE_TOKENS) // max(1, images)
    return max(LEAST_PICTURE_TOKENS, min(usual, room))
