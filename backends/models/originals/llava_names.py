"""The tensors of a LLaVA checkpoint: their names in the authors' layout and in transformers', and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_LANGUAGE = re.compile(r"model\.((?:embed_tokens|layers|norm)\..+)")
_PROJECTOR = re.compile(r"(?:.*\.)?mm_projector\.(?:(\d+)\.)?(weight|bias)")
_TOWER = re.compile(r"model\.vision_tower\.vision_tower\.(?:vision_model\.)?(.+)")
_CLIP = re.compile(r"(?:.*vision_model\.)?((?:embeddings|pre_layrnorm|encoder|post_layernorm)\..+)")
_NOT_WEIGHTS = ("rotary_emb.inv_freq", "position_ids")
# Of a whole CLIP: what only comparing pictures with texts takes.
_COMPARING = re.compile(r"(?:.*\.)?(?:text_model\..+|(?:text|visual)_projection\.weight|logit_scale)")


def loaded_name(key: str) -> str | None:
    """The name in transformers' LLaVA classes of the original's `key`; None for what they don't have."""
    if is_no_weight(key):
        return None
    if key in ("lm_head.weight", "model.image_newline"):
        return key
    if found := _PROJECTOR.fullmatch(key):
        # A bare linear layer has no number; the activations between layers take the odd ones.
        number, odd = divmod(int(found[1] or 0), 2)
        return None if odd else f"model.multi_modal_projector.linear_{number + 1}.{found[2]}"
    if found := _TOWER.fullmatch(key):
        return f"model.vision_tower.{found[1]}"
    if found := _LANGUAGE.fullmatch(key):
        return f"model.language_model.{found[1]}"
    return None


def is_no_weight(key: str) -> bool:
    """Whether a tensor is a buffer that the loaded model computes itself."""
    return key.endswith(_NOT_WEIGHTS)


def is_unused(name: str) -> bool:
    """Whether a loaded name has no place in some models of the classes, which answer the same without it.

    The line end of v1.6 where pictures are looked at as in v1.5, a head of its own beside one that is the
    token table, the half of CLIP that reads texts.
    """
    if is_tower(name):
        return _COMPARING.fullmatch(name) is not None
    return name in ("model.image_newline", "lm_head.weight")


def tower_name(key: str) -> str | None:
    """The name in transformers' LLaVA classes of a CLIP folder's `key`; None for its text half."""
    if is_no_weight(key) or "text_model." in key:
        return None
    found = _CLIP.fullmatch(key)
    return f"model.vision_tower.{found[1]}" if found else None


def is_tower(name: str) -> bool:
    """Whether a loaded name belongs to the vision tower."""
    return name.startswith("model.vision_tower.")


def original_key(key: str, *, doubled: bool) -> str:
    """A key of an adapter's or a projector's file as a whole checkpoint would have it.

    PEFT writes `base_model.` before all names, and `model.` twice (`doubled`) where it wrapped LLaVA's own
    class, which has one `model.` of its own.
    """
    key = key.removeprefix("base_model.")
    return key.removeprefix("model.") if doubled else key


def expected_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every weight that the class of the native `config` has, by its name."""
    text = config["text_config"]
    width, words = text["hidden_size"], text["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {"model.language_model.embed_tokens.weight": (words, width)}
    for number in range(text["num_hidden_layers"]):
        shapes |= _decoder_layer(f"model.language_model.layers.{number}.", text)
    shapes["model.language_model.norm.weight"] = (width,)
    shapes |= _projector(config)
    shapes |= _tower(config["vision_config"])
    if config["model_type"] == "llava_next":
        shapes["model.image_newline"] = (width,)
    if not text.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (words, width)
    return shapes


def _projector(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    inside, outside = config["vision_config"]["hidden_size"], config["text_config"]["hidden_size"]
    shapes: dict[str, tuple[int, ...]] = {}
    for number in range(1, config.get("projector_depth", 2) + 1):
        stem = f"model.multi_modal_projector.linear_{number}"
        shapes[f"{stem}.weight"] = (outside, inside if number == 1 else outside)
        shapes[f"{stem}.bias"] = (outside,)
    return shapes


def _decoder_layer(stem: str, text: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner = text["hidden_size"], text["intermediate_size"]
    head = text.get("head_dim") or width // text["num_attention_heads"]
    queries, keys = text["num_attention_heads"] * head, text["num_key_value_heads"] * head
    attention = {"q_proj": (queries, width), "k_proj": (keys, width), "v_proj": (keys, width)}
    attention["o_proj"] = (width, queries)
    mlp = {"gate_proj": (inner, width), "up_proj": (inner, width), "down_proj": (width, inner)}
    shapes: dict[str, tuple[int, ...]] = {}
    for part, layers, biased in (("self_attn", attention, "attention_bias"), ("mlp", mlp, "mlp_bias")):
        for name, shape in layers.items():
            shapes[f"{stem}{part}.{name}.weight"] = shape
            if text.get(biased):
                shapes[f"{stem}{part}.{name}.bias"] = shape[:1]
    shapes[f"{stem}input_layernorm.weight"] = (width,)
    shapes[f"{stem}post_attention_layernorm.weight"] = (width,)
    return shapes


def _tower(vision: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner, patch = vision["hidden_size"], vision["intermediate_size"], vision["patch_size"]
    stem = "model.vision_tower."
    places = (vision["image_size"] // patch) ** 2 + 1
    shapes: dict[str, tuple[int, ...]] = {
        f"{stem}embeddings.class_embedding": (width,),
        f"{stem}embeddings.patch_embedding.weight": (width, vision.get("num_channels", 3), patch, patch),
        f"{stem}embeddings.position_embedding.weight": (places, width),
    }
    layers = {f"self_attn.{name}_proj": (width, width) for name in ("q", "k", "v", "out")}
    layers |= {"mlp.fc1": (inner, width), "mlp.fc2": (width, inner)}
    for number in range(vision["num_hidden_layers"]):
        for name, shape in layers.items():
            shapes[f"{stem}encoder.layers.{number}.{name}.weight"] = shape
            shapes[f"{stem}encoder.layers.{number}.{name}.bias"] = shape[:1]
        for norm in ("layer_norm1", "layer_norm2"):
            shapes |= _norm(f"{stem}encoder.layers.{number}.{norm}", width)
    for norm in ("pre_layrnorm", "post_layernorm"):
        shapes |= _norm(f"{stem}{norm}", width)
    return shapes


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
