"""Translates module names of other families and versions: a pasted device map often holds those.

Published maps name the parts of the class that their author loaded: `language_model.model.layers.0` (LLaVA
before transformers 4.52), `model.layers.0` (the original LLaVA, Llama), `transformer.h.0` (GPT-2, Qwen),
`transformer.encoder.layers.0` (ChatGLM). The parts are the same: decoder layers by number, embeddings, last
norm, head, vision part, projector.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from backends.models.types import Module, ModuleKind

_ROOT = r"(?:(?:base_model|model|transformer|language_model|text_model|encoder|decoder|gpt_neox|backbone)\.)*"
_LAYERS = _ROOT + r"(?:layers|h|blocks|block)"
_LAYER = re.compile(_LAYERS + r"\.([0-9]{1,5})")
_ALL_LAYERS = re.compile(_LAYERS)
_ROTARY = re.compile(_ROOT + r"(?:rotary_emb|rotary_pos_emb)")
# The last step of a foreign path -> what it is in every family. Roots are left out: they differ.
_PARTS: tuple[tuple[ModuleKind, re.Pattern[str]], ...] = (
    (
        ModuleKind.EMBED,
        re.compile(
            _ROOT + r"(?:embedding\.)?(?:embed_tokens|wte|word_embeddings|embedding|tok_embeddings|embed_in)"
        ),
    ),
    (ModuleKind.NORM, re.compile(_ROOT + r"(?:norm|ln_f|final_layernorm|final_layer_norm)")),
    (ModuleKind.HEAD, re.compile(_ROOT + r"(?:lm_head|output_layer|embed_out)")),
    (
        ModuleKind.VISION,
        re.compile(_ROOT + r"(?:vision_tower\.)*(?:vision_tower|vision_model|visual|vision)"),
    ),
    (
        ModuleKind.PROJECTOR,
        re.compile(_ROOT + r"(?:mm_projector|multi_modal_projector|projector|connector|vision_proj)"),
    ),
)
_WHOLE_DECODER = ("language_model", "language_model.model", "model.language_model", "transformer")


def translated(key: str, modules: Sequence[Module]) -> str:
    """Return what `key` is called in this model; `key` itself when it is known here or means nothing.

    Only a part that this model has exactly once is translated.
    """
    names = [module.name for module in modules]
    if key == "" or key in names or any(name.startswith(f"{key}.") for name in names):
        return key
    layers = [module.name for module in modules if module.kind is ModuleKind.LAYER]
    above = layers[0].rpartition(".")[0] if layers else ""
    if key in _WHOLE_DECODER and layers:
        return above.rpartition(".")[0]
    if _ALL_LAYERS.fullmatch(key) and layers:
        return above
    found = _LAYER.fullmatch(key)
    if found is not None:
        number = int(found[1]) if len(found[1]) < 6 else len(layers)
        return layers[number] if number < len(layers) else key
    same = _same_part(key, modules)
    return same[0] if len(same) == 1 else key


def _same_part(key: str, modules: Sequence[Module]) -> list[str]:
    """The modules of this model that are what `key` is elsewhere."""
    if _ROTARY.fullmatch(key):
        return [module.name for module in modules if _ROTARY.fullmatch(module.name)]
    kind = next((kind for kind, pattern in _PARTS if pattern.fullmatch(key)), None)
    return [module.name for module in modules if module.kind is kind]
