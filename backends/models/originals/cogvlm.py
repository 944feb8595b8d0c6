"""CogVLM and CogVLM2 in their authors' layout, as a recipe for Snug's own class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.errors import ModelDamaged, SettingInvalid, SnugError
from backends.models.adapter import Finder
from backends.models.checkpoint import read_json_if_there
from backends.models.geometry import number
from backends.models.originals.cogvlm_names import checked_names
from backends.models.originals.cogvlm_words import find_words, words_absent
from backends.models.originals.config_values import Values
from backends.models.originals.types import Companions, Part, Recipe, Source
from backends.models.types import Tensor
from backends.models.weight_files import read_any_headers
from backends.text import Text, shown_name

LAYOUT = "cogvlm"
# Formats of a conversation: a question and its answer, one that asks for a short answer, the text as it is.
TEMPLATES = ("chat", "vqa", "base")
_TABLE = "model.embed_tokens.weight"
_CONVOLUTION = "model.vision.conv.weight"
_BIAS = "model.layers.0.self_attn.vision_expert_query_key_value.bias"
# What the authors' code takes where config.json says nothing.
_CLASSES = "CogVLMForCausalLM"
_THETA, _THETA_2 = 10_000.0, 500_000.0
_PLACEHOLDER, _PLACEHOLDER_2 = 0, 128_002
_CHANNELS, _EPS, _CONTEXT, _START = 3, 1e-6, 2048, 1
_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_VISION_SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_heads"),
    *("num_positions", "image_size", "patch_size"),
)


def cogvlm_recipe(folder: Path, config: Mapping[str, Any], companions: Companions, finder: Finder) -> Recipe:
    """How the checkpoint in `folder` becomes a `CogVLMForCausalLM`.

    Its tokenizer is None where it is nowhere: `tokenizer_absent` says that. Raises ModelDamaged for a config
    or files that don't belong together, ModelUnsupported for another model's tokenizer, SettingInvalid for a
    template that there isn't.
    """
    headers = read_any_headers(folder)
    stored = {tensor.name: (tensor, folder / header.file) for header in headers for tensor in header.tensors}
    tensors = {name: tensor for name, (tensor, _) in stored.items()}
    native = native_config(folder, config, tensors)
    template = _template(companions.template, native["template_version"])
    words = find_words(folder, companions.tokenizer, native["vocab_size"], finder, own=brings_words(native))
    sources = {name: Source(Part(stored[name][1], name)) for name in checked_names(folder, native, tensors)}
    return Recipe(
        folder=folder,
        layout=LAYOUT,
        config=native,
        sources=sources,
        weights=tuple(sorted({source.part.file for source in sources.values()})),
        tokenizer=words,
        template=template,
        pictures={"size": native["vision_config"]["image_size"]},
        companions=Companions(tokenizer=words, template=template),
        templates=TEMPLATES,
    )


def tokenizer_absent(recipe: Recipe) -> SnugError:
    """The error about a recipe without a tokenizer: enough to plan with, not to load."""
    return words_absent(recipe.folder, own=brings_words(recipe.config))


def brings_words(native: Mapping[str, Any]) -> bool:
    """Whether a checkpoint with this native config has a tokenizer of its own: CogVLM2 has."""
    return bool(native["spatial_merge_size"] > 1)


def native_config(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The config of the class that loads it. What the two generations differ in is seen from `tensors`.

    Raises ModelDamaged, with file, key and value, for what can't be; ModelUnsupported for functions that
    nobody computes.
    """
    stated = Values(folder, config)
    first = config.get("num_multi_query_heads") is None
    table = tensors.get(_TABLE)
    sizes = {key: _size(folder, config, key) for key in _SIZES}
    rows = stated.whole("vocab_size", table.shape[0] if table is not None and table.shape else 1)
    native = {
        "model_type": LAYOUT,
        "architectures": [_CLASSES],
        **sizes,
        **_tokens(stated, rows, _PLACEHOLDER if first else _PLACEHOLDER_2),
        "hidden_act": stated.activation("hidden_act", "silu"),
        "rms_norm_eps": stated.real("rms_norm_eps", _EPS),
        "max_position_embeddings": stated.whole("max_position_embeddings", _CONTEXT),
        "tie_word_embeddings": stated.flag("tie_word_embeddings", default=False),
        "vocab_size": rows,
        "num_key_value_heads": stated.whole("num_multi_query_heads", sizes["num_attention_heads"]),
        "rope_theta": stated.real("rope_theta", _THETA if first else _THETA_2),
        "template_version": str(config.get("template_version") or TEMPLATES[0]),
        "vision_qkv_bias": _BIAS in tensors,
        "spatial_merge_size": _stride(tensors.get(_CONVOLUTION), grouped=not first),
        "vision_config": _vision(folder, config),
    }
    _check(folder, native)
    return native


def _tokens(stated: Values, rows: int, placeholder: int) -> dict[str, Any]:
    """The tokens that mean something, of a vocabulary of `rows`.

    `eos_token_id` is None where neither config.json nor generation_config.json names an end: the
    tokenizer's own is one then.
    """
    if "bos_token_id" in stated.stated and stated.stated["bos_token_id"] is None:
        raise stated.malformed("bos_token_id")
    padding, start = stated.token("pad_token_id", rows), stated.token("bos_token_id", rows)
    file = "generation_config.json"
    generation = Values(stated.folder, read_json_if_there(stated.folder / file), file)
    ends = stated.tokens("eos_token_id", rows)
    return {
        "bos_token_id": _START if start is None else start,
        "eos_token_id": generation.tokens("eos_token_id", rows) or ends or None,
        "pad_token_id": padding,
        "image_token_id": placeholder if padding is None else padding,
    }


def _vision(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    tower = config.get("vision_config")
    stated = Values(folder, tower if isinstance(tower, dict) else {}, part="vision_config")
    if stated.whole("in_channels", _CHANNELS) != _CHANNELS:
        raise stated.malformed("in_channels")
    return {
        "model_type": "cogvlm_vision",
        "hidden_act": stated.activation("hidden_act", "gelu"),
        "in_channels": _CHANNELS,
        "layer_norm_eps": stated.real("layer_norm_eps", _EPS),
        **{key: _size(folder, stated.stated, key) for key in _VISION_SIZES},
    }


def _stride(convolution: Tensor | None, *, grouped: bool) -> int:
    """How many patches along a side become one token."""
    if convolution is not None and len(convolution.shape) == 4:
        return convolution.shape[-1]
    return 2 if grouped else 1


def _check(folder: Path, native: Mapping[str, Any]) -> None:
    """Refuse sizes that contradict each other. Raises ModelDamaged."""
    tower = native["vision_config"]
    patches = (tower["image_size"] // tower["patch_size"]) ** 2
    if tower["num_positions"] != patches + 1:
        raise _damaged(
            folder,
            Text.of(
                "cogvlm.positions",
                "Its config.json gives {stated:count} positions for pictures of {needed:count} patches and a "
                "class token.",
                stated=tower["num_positions"],
                needed=patches,
            ),
        )
    parts = (
        (native["hidden_size"], native["num_attention_heads"]),
        (native["num_attention_heads"], native["num_key_value_heads"]),
        (tower["hidden_size"], tower["num_heads"]),
    )
    for whole, pieces in parts:
        if whole % pieces:
            raise _damaged(
                folder,
                Text.of(
                    "cogvlm.heads",
                    "Its config.json divides {whole:count} into {pieces:count} heads, which leaves a rest.",
                    whole=whole,
                    pieces=pieces,
                ),
            )
    if native["image_token_id"] >= native["vocab_size"]:
        raise _damaged(
            folder,
            Text.of(
                "cogvlm.placeholder",
                "The token {token:count}, which stands for pictures, lies outside of its vocabulary of "
                "{rows:count}.",
                token=native["image_token_id"],
                rows=native["vocab_size"],
            ),
        )


def _template(chosen: str | None, stated: str) -> str:
    """The format by the name that a person chose, else the checkpoint's own. Raises SettingInvalid."""
    if chosen is None:
        return stated if stated in TEMPLATES else TEMPLATES[0]
    if (name := chosen.strip().casefold()) in TEMPLATES:
        return name
    raise SettingInvalid(
        name="template",
        value=shown_name(chosen),
        detail=Text("cogvlm.template", "CogVLM was taught no format of conversations by that name."),
        suggestion=Text.of("cogvlm.templates", "Choose one of these: {names}.", names=", ".join(TEMPLATES)),
    )


def _size(folder: Path, config: Mapping[str, Any], key: str) -> int:
    found = number(config, key)
    if found is None:
        raise _damaged(folder, Text.of("cogvlm.size", "Its config.json gives no size for {key}.", key=key))
    return found


def _damaged(folder: Path, detail: Text) -> ModelDamaged:
    return ModelDamaged(path=str(folder), detail=detail, file="config.json")
