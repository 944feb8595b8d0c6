"""Translates a file's tensor names to the module paths of the model that transformers builds from it.

Publishers' files keep the names of the version that wrote them; transformers renames them on loading.
The renaming follows one shape for all families: a vision-language model is
`model.{vision part, projector, language model}` beside `lm_head`, whatever the file called them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

# Parts of a model by the words that transformers' families name them with.
VISION_WORDS = ("vision", "visual", "vit", "image_tower", "image_encoder", "image_embed", "vqmodel")
PROJECTOR_WORDS = ("proj", "connector", "merger", "aligner", "resampler", "perceiver", "qformer", "mlp_ar")
AUDIO_WORDS = ("audio", "speech", "sound")
# Families whose parts stand beside each other without a common level once loaded, as in their files.
_AS_STORED = frozenset(
    {"blip", "blip-2", "git", "idefics", "instructblip", "kosmos-2", "kosmos-2.5", "llama4"}
)
# Parts that transformers gave another name.
_RENAMED = {"mlp_AR": "projector"}
_LANGUAGE_ROOTS = ("language_model", "text_model")
# A block's number as it is written by whoever numbers blocks; nobody has a million of them.
_BLOCK = re.compile(r"^(.*?)\.?(\w+)\.(0|[1-9][0-9]{0,4})\.")
# CLIP-like towers are flat once loaded; their files keep the level of the class that wrapped them.
_LANGUAGE_LEVEL = re.compile(rf"^(model\.(?:{'|'.join(_LANGUAGE_ROOTS)}))\.model\.")
_TOWER_LEVEL = re.compile(r"^((?:model\.)?vision_tower)\.vision_model\.")


@lru_cache(maxsize=4096)
def is_vision(component: str) -> bool:
    """Tell whether a path component names the vision part (and not the projector behind it)."""
    return any(word in component for word in VISION_WORDS) and not is_projector(component)


@lru_cache(maxsize=4096)
def is_projector(component: str) -> bool:
    """Tell whether a path component names what turns picture features into tokens."""
    return any(word in component for word in PROJECTOR_WORDS)


def loaded_names(names: Iterable[str], *, multimodal: bool, family: str = "") -> Mapping[str, str]:
    """Map every tensor name of a file to its name in the loaded model."""
    names = tuple(names)
    if family in _AS_STORED:
        return {name: name for name in names}
    if multimodal:
        flat_language = _language_is_flat(names)
        return {name: _multimodal_name(name, flat_language=flat_language) for name in names}
    headless = not any(
        name.startswith(("model.", "transformer.", "gpt_neox.", "backbone.")) for name in names
    )
    bare = headless and any(name.startswith(("layers.", "embed_tokens.")) for name in names)
    return {name: f"model.{name}" if bare and not name.startswith("lm_head") else name for name in names}


def _multimodal_name(name: str, *, flat_language: bool) -> str:
    name = _inside_model(name, flat_language=flat_language)
    return _TOWER_LEVEL.sub(r"\1.", _LANGUAGE_LEVEL.sub(r"\1.", name))


def _inside_model(name: str, *, flat_language: bool) -> str:
    """Put every part below `model.`, the head beside it, the language model into its own level."""
    head, _, rest = name.partition(".")
    if head in _LANGUAGE_ROOTS:
        inner, _, tail = rest.partition(".")
        if inner == "lm_head":
            return rest
        return f"model.{head}.{tail if inner == 'model' else rest}"
    if head == "lm_head":
        return name
    if head in _RENAMED:
        return f"model.{_RENAMED[head]}.{rest}"
    if head != "model":
        return f"model.{name}"
    return f"model.language_model.{rest}" if flat_language else name


def _language_is_flat(names: tuple[str, ...]) -> bool:
    """Tell whether `model.` holds the bare language model, its vision part standing beside it (Qwen2-VL)."""
    has_layers = any(re.match(r"^model\.(layers|h|blocks)\.[0-9]+\.", name) for name in names)
    vision_outside = any(is_vision(name.partition(".")[0]) for name in names)
    return has_layers and vision_outside


def block_of(name: str) -> tuple[str, int] | None:
    """Return the outermost numbered block that a tensor lies in: ("model.layers", 7), or None."""
    found = _BLOCK.match(name)
    if found is None:
        return None
    prefix = f"{found[1]}.{found[2]}" if found[1] else found[2]
    return prefix, int(found[3])
