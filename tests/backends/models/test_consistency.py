"""A config.json that contradicts the weight files is refused before anything is planned with it.

That no sound family is accused is shown by test_real_trees, whose configs state every figure.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backends.errors import ModelDamaged
from backends.models.identify import identify
from tests.support import checkpoints
from tests.support.shapes import Shapes, decoder, write_model

HIDDEN, ROWS, INNER, VOCAB = 64, 32, 128, 320
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCAB,
}


def shapes() -> Shapes:
    """A text model as `CONFIG` says."""
    return decoder(
        "model.",
        hidden=HIDDEN,
        intermediate=INNER,
        layers=4,
        queries=HIDDEN,
        keys=ROWS,
        vocab=VOCAB,
        head="lm_head.weight",
    )


def fused(rows: int = HIDDEN + 2 * ROWS) -> Shapes:
    """Phi-3's layout: queries, keys and values in one matrix, gate and up in another."""
    found = {
        name: shape
        for name, shape in shapes().items()
        if not any(part in name for part in ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"))
    }
    for layer in range(4):
        found[f"model.layers.{layer}.self_attn.qkv_proj.weight"] = (rows, HIDDEN)
        found[f"model.layers.{layer}.mlp.gate_up_proj.weight"] = (2 * INNER, HIDDEN)
    return found


def refused(folder: Path, config: dict[str, Any], tensors: Shapes) -> str:
    with pytest.raises(ModelDamaged) as caught:
        identify(write_model(folder, config, tensors))
    assert "config.json and the weight files" in str(caught.value.remedy_text)
    return str(caught.value.why_text)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": 128}, "128 for the hidden size, but model.embed_tokens.weight in"),
        ({"vocab_size": 32_000}, "32,000 for the size of the vocabulary, but model.embed_tokens.weight in"),
        ({"num_key_value_heads": 4}, "64 for the width of the attention's keys"),
        ({"head_dim": 32}, "64 for the width of the attention's keys"),
        ({"intermediate_size": 256}, "256 for the width of the MLP, but model.layers.0.mlp.up_proj.weight"),
        ({"num_hidden_layers": 5}, "hold 4 decoder layers, and config.json says 5"),
    ],
    ids=["hidden size", "vocabulary", "heads of the keys", "size of a head", "MLP", "layers"],
)
def test_a_contradiction_names_both_sides(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in refused(tmp_path, CONFIG | changes, shapes())


@pytest.mark.parametrize(
    ("changes", "rows", "said"),
    [
        ({"num_key_value_heads": 4}, HIDDEN + 2 * ROWS, "192 for the width of queries, keys and values"),
        ({}, 3 * HIDDEN, "128 for the width of queries, keys and values together"),
        ({"intermediate_size": 64}, HIDDEN + 2 * ROWS, "128 for the width of the MLP"),
    ],
)
def test_fused_matrices(changes: dict[str, Any], rows: int, said: str, tmp_path: Path) -> None:
    config = CONFIG | {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"]}
    identify(write_model(tmp_path / "sound", config, fused()))
    assert said in refused(tmp_path / "not", config | changes, fused(rows))


def test_a_picture_models_own_parts(tmp_path: Path) -> None:
    folder = checkpoints.llava_15_7b(tmp_path / "m")
    whole = json.loads((folder / "config.json").read_text(encoding="utf-8"))

    def with_change(part: str, **changes: int) -> str:
        config = whole | {part: whole[part] | changes}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        with pytest.raises(ModelDamaged) as caught:
            identify(folder)
        return str(caught.value.why_text)

    assert "5,120 for the hidden size" in with_change("text_config", hidden_size=5120)
    assert "32,000 for the size of the vocabulary" in with_change("text_config", vocab_size=32_000)
    assert "768 for the width of the vision tower" in with_change("vision_config", hidden_size=768)
    # Only the language model's own figures count: the outer vocab_size of old copies is nobody's.
    (folder / "config.json").write_text(json.dumps(whole | {"vocab_size": 32_000}), encoding="utf-8")
    assert identify(folder).text.vocab == 32_064


def _packed(found: Shapes) -> None:
    """bitsandbytes' four-bit weights lie in one column of bytes, GPTQ's have names of their own."""
    for name in list(found):
        if "mlp." in name or "self_attn." in name:
            found[name.replace(".weight", ".qweight")] = (found.pop(name)[0] // 8, HIDDEN)


def _wide_layer(found: Shapes) -> None:
    for part in ("gate_proj", "up_proj"):
        found[f"model.layers.3.mlp.{part}.weight"] = (2 * INNER, HIDDEN)
    found["model.layers.3.self_attn.k_proj.weight"] = (2 * ROWS, HIDDEN)


def _eight_more_rows(found: Shapes) -> None:
    found["model.embed_tokens.weight"] = (VOCAB + 8, HIDDEN)


def _tied(found: Shapes) -> None:
    del found["lm_head.weight"]


def _experts(found: Shapes) -> None:
    for layer in range(4):
        for part in ("gate_proj", "up_proj"):
            found[f"model.layers.{layer}.mlp.experts.0.{part}.weight"] = (INNER, HIDDEN)
            found[f"model.layers.{layer}.mlp.{part}.weight"] = (4 * INNER, HIDDEN)


def _one_more_layer(found: Shapes) -> None:
    found["model.layers.4.eh_proj.weight"] = (HIDDEN, 2 * HIDDEN)


def _leftovers(found: Shapes) -> None:
    found["model.layers.0.self_attn.rotary_emb.inv_freq"] = (8,)
    found["model.layers.0.self_attn.k_proj.weight_shard_1"] = (ROWS // 2, HIDDEN)
    found["model.layers.0.mlp.up_proj.weight.tp_rank_0"] = (INNER // 2, HIDDEN)


def _nothing(found: Shapes) -> None:
    """As it is."""


@pytest.mark.parametrize(
    ("change", "config"),
    [
        (_nothing, {}),
        (_nothing, {"hidden_size": None, "vocab_size": None, "intermediate_size": None}),
        (_nothing, {"pretraining_tp": 4, "tensor_parallel_degree": 2}),
        (_packed, {"quantization_config": {"quant_method": "gptq", "bits": 4}}),
        (_wide_layer, {}),
        (_eight_more_rows, {}),
        (_eight_more_rows, {"padded_vocab_size": VOCAB + 8, "tie_word_embeddings": True}),
        (_tied, {"tie_word_embeddings": True}),
        (_experts, {"num_experts_per_tok": 1}),
        (_one_more_layer, {}),
        (_leftovers, {}),
    ],
    ids=[
        "as it should be", "figures left to the class", "parallel in training", "packed weights",
        "one layer of another size", "a longer table beside a head that fits", "a padded table",
        "a tied head", "figures that may be the experts'", "a layer that predicts ahead",
        "tensors of other programs",
    ],
)  # fmt: skip
def test_nobody_is_accused_for(
    change: Callable[[Shapes], None], config: dict[str, Any], tmp_path: Path
) -> None:
    found = shapes()
    change(found)
    assert identify(write_model(tmp_path, CONFIG | config, found)).text.hidden == HIDDEN


def test_bytes_of_bitsandbytes_are_no_matrix(tmp_path: Path) -> None:
    """Its four-bit weights keep their names and lie in one column of bytes."""
    whole = {name: (name, shape) for name, shape in shapes().items()}
    raw: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, shape in whole.values():
        packed = "_proj." in name
        size = shape[0] * shape[-1] // 2 if packed else 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        entry = {"dtype": "U8" if packed else "BF16", "shape": [size, 1] if packed else list(shape)}
        raw[name] = entry | {"data_offsets": [position, position + size]}
        position += size
    header = json.dumps(raw).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    assert identify(tmp_path).text.hidden == HIDDEN


def test_a_lora_is_judged_by_its_base(tmp_path: Path) -> None:
    base = checkpoints.llava_15_7b(tmp_path / "llava-1.5-7b-hf")
    lora = checkpoints.lora(tmp_path / "lora", "llava-hf/llava-1.5-7b-hf")
    assert identify(lora).adapter is not None
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    config["text_config"]["vocab_size"] = 99
    (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelDamaged, match="vocabulary"):
        identify(lora)
