"""ChatGLM3 in its authors' layout, as a recipe for transformers' GLM class.

The parts map one to one; the fused matrix of queries, keys and values is split by its rows, in this order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.errors import ModelDamaged, ModelUnsupported, SettingInvalid
from backends.models.adapter import Finder
from backends.models.checkpoint import read_json_if_there
from backends.models.geometry import number
from backends.models.originals.config_values import Values
from backends.models.originals.pieces import count_pieces
from backends.models.originals.types import Companions, Part, Recipe, Source
from backends.models.types import Tensor
from backends.models.weight_files import read_any_headers
from backends.text import Text, shown_name

LAYOUT = "chatglm"
TEMPLATE = "chatglm3"
WORDS = "tokenizer.model"
# Special tokens in the order of their ids, which follow the words of the tokenizer.
SPECIALS = (
    *("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
)
# What ends an answer beside the end token: the turn of somebody else.
STOPS = ("<|user|>", "<|observation|>")
END = 2

_THETA = 10_000.0
# No model has as many; a garbage figure must not fill the memory.
_MOST_LAYERS = 10_000
_PLACES = {
    "transformer.embedding.word_embeddings.weight": "model.embed_tokens.weight",
    "transformer.encoder.final_layernorm.weight": "model.norm.weight",
    "transformer.output_layer.weight": "lm_head.weight",
}
_INSIDE = {
    "input_layernorm.weight": "input_layernorm.weight",
    "post_attention_layernorm.weight": "post_attention_layernorm.weight",
    "self_attention.dense.weight": "self_attn.o_proj.weight",
    "mlp.dense_h_to_4h.weight": "mlp.gate_up_proj.weight",
    "mlp.dense_4h_to_h.weight": "mlp.down_proj.weight",
}
_FUSED = re.compile(r"self_attention\.query_key_value\.(weight|bias)")
_LAYER = re.compile(r"transformer\.encoder\.layers\.(0|[1-9]\d{0,4})\.(.+)")
# Recomputed by both: the table of angles.
_IGNORED = "transformer.rotary_pos_emb.inv_freq"
# Settings of this code that GLM's class does not have -> the only value that means the same.
_SAME: Mapping[str, object] = {
    "rmsnorm": True,
    "post_layer_norm": True,
    "apply_residual_connection_post_layernorm": False,
    "add_bias_linear": False,
    "original_rope": True,
    "fp32_residual_connection": False,
    "pre_seq_len": None,
    "quantization_bit": 0,
}
_SIZES = (
    "num_layers",
    "hidden_size",
    "ffn_hidden_size",
    "num_attention_heads",
    "kv_channels",
    "padded_vocab_size",
)
_OLDER = re.compile(r"chatglm2|codegeex2", re.IGNORECASE)


def chatglm_recipe(folder: Path, config: Mapping[str, Any], companions: Companions, finder: Finder) -> Recipe:  # noqa: ARG001 - every layout's signature
    """How the ChatGLM3 in `folder` becomes a GlmForCausalLM.

    Its tokenizer is None where it is nowhere. Raises ModelUnsupported for ChatGLM2, GLM-4 and variants that
    GLM's class does not have, ModelDamaged for tensors that are missing or of other sizes, SettingInvalid for
    an unknown template.
    """
    if companions.template not in (None, TEMPLATE):
        raise _unknown_template(companions.template)
    words = _words(folder, companions.tokenizer)
    _check_kind(folder, config, chosen=companions.template is not None)
    headers = read_any_headers(folder)
    files = {tensor.name: folder / header.file for header in headers for tensor in header.tensors}
    tensors = {tensor.name: tensor for header in headers for tensor in header.tensors}
    pieces = _pieces(folder, words)
    native = _native(folder, config, tensors, pieces)
    return Recipe(
        folder=folder,
        layout=LAYOUT,
        config=native,
        sources=_sources(folder, native, tensors, files),
        weights=tuple(sorted(set(files.values()))),
        tokenizer=words,
        template=TEMPLATE,
        companions=Companions(tokenizer=words, template=TEMPLATE),
        templates=(TEMPLATE,),
    )


def words_file(place: Path) -> Path:
    """The tokenizer's file in a folder, or the file itself."""
    return place / WORDS if place.is_dir() else place


def _words(folder: Path, named: Path | None) -> Path | None:
    place = named or folder
    return place if words_file(place).is_file() else None


def _pieces(folder: Path, words: Path | None) -> int | None:
    if words is None:
        return None
    try:
        found = count_pieces(words_file(words))
    except OSError:
        found = None
    if found is None:
        # GLM-4 has the same config, and other words.
        detail = Text.of(
            "chatglm.words",
            "Its {file} is not a file of SentencePiece, as ChatGLM3's is; GLM-4's is another one.",
            file=words_file(words).name,
        )
        remedy = Text(
            "chatglm.glm4",
            "For GLM-4 get the files that transformers reads itself: zai-org/glm-4-9b-chat-hf. For ChatGLM3 "
            "download the file again.",
        )
        raise ModelUnsupported(path=str(folder), detail=detail, suggestion=remedy)
    return found


def _check_kind(folder: Path, config: Mapping[str, Any], *, chosen: bool) -> None:
    """Refuse what differs from ChatGLM3 in how it computes or is talked to."""
    for key, same in _SAME.items():
        stated = config.get(key, same)
        if stated != same and not (same in (None, 0) and not stated):
            detail = Text.of(
                "chatglm.setting",
                "Its config.json says {key} = {value}, which no class of transformers computes.",
                key=key,
                value=shown_name(str(stated)),
            )
            raise _unsupported(folder, detail)
    names = (
        config.get("_name_or_path"),
        read_json_if_there(folder / "tokenizer_config.json").get("name_or_path"),
    )
    older = next((str(name) for name in names if name and _OLDER.search(str(name))), None)
    if older and not chosen:
        detail = Text.of(
            "chatglm.older",
            "It is {name}, which was taught another format of conversations than ChatGLM3.",
            name=shown_name(older),
        )
        remedy = Text(
            "chatglm.older_remedy",
            "Use ChatGLM3, or have it talked to in ChatGLM3's format all the same: --set template=chatglm3.",
        )
        raise ModelUnsupported(path=str(folder), detail=detail, suggestion=remedy)


def _native(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], pieces: int | None
) -> dict[str, Any]:
    """GlmConfig's values; its own defaults for the norm, the end and the padding are another model's."""
    sizes = {key: number(config, key) for key in _SIZES}
    absent = [key for key, value in sizes.items() if value is None]
    if absent:
        detail = Text.of("chatglm.sizes", "Its config.json does not say {key}.", key=absent[0])
        raise ModelDamaged(path=str(folder), detail=detail, file="config.json")
    stated = Values(folder, config)
    shared = config.get("multi_query_attention") and stated.whole("multi_query_group_num", 0)
    ends = [] if pieces is None else [pieces + SPECIALS.index(name) for name in STOPS]
    return {
        "model_type": "glm",
        "architectures": ["GlmForCausalLM"],
        "vocab_size": sizes["padded_vocab_size"],
        "hidden_size": sizes["hidden_size"],
        "intermediate_size": sizes["ffn_hidden_size"],
        "num_hidden_layers": sizes["num_layers"],
        "num_attention_heads": sizes["num_attention_heads"],
        "num_key_value_heads": shared or sizes["num_attention_heads"],
        "head_dim": sizes["kv_channels"],
        "max_position_embeddings": stated.whole("seq_length", 2048),
        "rms_norm_eps": stated.real("layernorm_epsilon", 1e-5),
        "hidden_act": "silu",
        "attention_bias": any(name.endswith("query_key_value.bias") for name in tensors),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": _THETA * stated.real("rope_ratio", 1.0),
            "partial_rotary_factor": 0.5,
        },
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": [END, *ends],
        "pad_token_id": 0,
    }


def _sources(
    folder: Path, native: Mapping[str, Any], tensors: Mapping[str, Tensor], files: Mapping[str, Path]
) -> dict[str, Source]:
    """Where every tensor of the native model comes from. Raises ModelDamaged, with figures, for gaps."""
    found: dict[str, Source] = {}
    unknown: list[str] = []
    for key, tensor in tensors.items():
        layer = _LAYER.fullmatch(key)
        if key in _PLACES:
            found[_PLACES[key]] = Source(Part(files[key], key))
        elif layer and layer[2] in _INSIDE:
            found[f"model.layers.{layer[1]}.{_INSIDE[layer[2]]}"] = Source(Part(files[key], key))
        elif layer and (fused := _FUSED.fullmatch(layer[2])):
            found |= _split(native, tensor, files[key], f"model.layers.{layer[1]}.self_attn", fused[1])
        elif key != _IGNORED:
            unknown.append(key)
    if unknown:
        detail = Text.of(
            "chatglm.unknown",
            "It holds {count} tensors that ChatGLM3 does not have, such as {tensor}.",
            count=len(unknown),
            tensor=shown_name(unknown[0]),
        )
        raise _unsupported(folder, detail)
    expected = _expected(native)
    gaps = sorted(expected - set(found))
    if gaps or len(found) > len(expected):
        odd = gaps or sorted(set(found) - expected)
        detail = Text.of(
            "chatglm.gaps",
            "Its files hold {have:count} tensors of the model and config.json asks for {needed:count}; "
            "{tensor} is one that differs.",
            have=len(found),
            needed=len(expected),
            tensor=odd[0],
        )
        raise ModelDamaged(path=str(folder), detail=detail, file=Text("chatglm.weights", "the weight files"))
    return found


def _split(native: Mapping[str, Any], tensor: Tensor, file: Path, place: str, kind: str) -> dict[str, Source]:
    """Queries, keys and values of one fused tensor."""
    size, groups = native["head_dim"], native["num_key_value_heads"]
    rows = [native["num_attention_heads"] * size, groups * size, groups * size]
    if not tensor.shape or tensor.shape[0] != sum(rows):
        detail = Text.of(
            "chatglm.fused",
            "{tensor} has {have:count} rows, and config.json asks for {needed:count}.",
            tensor=shown_name(tensor.name),
            have=tensor.shape[0] if tensor.shape else 0,
            needed=sum(rows),
        )
        raise ModelDamaged(path=str(file.parent), detail=detail, file=tensor.file)
    ends = [sum(rows[: number + 1]) for number in range(len(rows))]
    return {
        f"{place}.{name}.{kind}": Source(Part(file, tensor.name, (end - count, end)))
        for name, end, count in zip(("q_proj", "k_proj", "v_proj"), ends, rows, strict=True)
    }


def _expected(native: Mapping[str, Any]) -> set[str]:
    """Every tensor of the native model."""
    kinds = ("weight", "bias") if native["attention_bias"] else ("weight",)
    inside = [*_INSIDE.values(), *(f"self_attn.{part}_proj.{kind}" for part in "qkv" for kind in kinds)]
    layers = range(min(native["num_hidden_layers"], _MOST_LAYERS))
    return {*_PLACES.values(), *(f"model.layers.{layer}.{name}" for layer in layers for name in inside)}


def _unsupported(folder: Path, detail: Text) -> ModelUnsupported:
    remedy = Text("chatglm.remedy", "Use the ChatGLM3 that its authors publish: zai-org/chatglm3-6b.")
    return ModelUnsupported(path=str(folder), detail=detail, suggestion=remedy)


def _unknown_template(template: str | None) -> SettingInvalid:
    return SettingInvalid(
        name="template",
        value=shown_name(str(template)),
        detail=Text("chatglm.template", "ChatGLM3 knows one format of conversations."),
        suggestion=Text.of("chatglm.template_remedy", "Leave it out, or set {known}.", known=TEMPLATE),
    )
