"""ChatGLM3's own layout becomes transformers' GLM, tensor by tensor; what differs from it is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, GlmForCausalLM

from backends.errors import ModelDamaged, ModelUnsupported, SettingInvalid
from backends.models.originals.chatglm import chatglm_recipe
from backends.models.originals.pieces import count_pieces
from backends.models.originals.types import Companions, Recipe
from tests.support import checkpoints
from tests.support.recipes import nowhere, read_part

CHECKPOINT = Path(__file__).parents[3] / "fixtures" / "chatglm3-6b" / "checkpoint" / "chatglm3-6b-tiny"
SHARD = "pytorch_model-00001-of-00002.bin"


def read(folder: Path, companions: Companions | None = None) -> Recipe:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return chatglm_recipe(folder, config, companions or Companions(), nowhere)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "我的 model"
    shutil.copytree(CHECKPOINT, folder)
    return folder


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def change_shard(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = torch.load(folder / SHARD, weights_only=True)
    change(tensors)
    torch.save(tensors, folder / SHARD)


def test_every_tensor_of_the_native_class_has_its_source() -> None:
    recipe = read(CHECKPOINT)
    with torch.device("meta"):
        expected = GlmForCausalLM(AutoConfig.for_model(**recipe.config)).state_dict()

    assert set(recipe.sources) == set(expected)
    assert {name: read_part(source.part).shape for name, source in recipe.sources.items()} == {
        name: tensor.shape for name, tensor in expected.items()
    }
    assert {file.name for file in recipe.weights} == {SHARD, SHARD.replace("00001", "00002", 1)}
    assert recipe.tokenizer == CHECKPOINT
    assert recipe.template == "chatglm3"


def test_its_settings_are_those_of_the_checkpoint_and_not_glm_s_own() -> None:
    config = AutoConfig.for_model(**read(CHECKPOINT).config)

    assert (config.vocab_size, config.intermediate_size, config.num_hidden_layers) == (704, 112, 2)
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (4, 2, 16)
    assert (config.rms_norm_eps, config.pad_token_id, config.eos_token_id) == (1e-5, 0, [2, 646, 648])
    assert config.rope_parameters["rope_theta"] == 10_000
    assert config.rope_parameters["partial_rotary_factor"] == 0.5
    assert config.attention_bias
    assert config.max_position_embeddings == 2048


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("rope_ratio", value) for value in ("x", -2, 0, True)),
        *(("layernorm_epsilon", value) for value in ("x", -1e-5)),
        *(("seq_length", value) for value in ("x", 0, 2.5)),
        ("multi_query_group_num", "x"),
    ],
)
def test_a_value_that_cannot_be_is_named(copy: Path, key: str, value: object) -> None:
    rewrite(copy, **{key: value})
    with pytest.raises(ModelDamaged, match=rf"config\.json gives {key} as {value}"):
        read(copy)


def test_the_long_one_turns_slower(copy: Path) -> None:
    rewrite(copy, rope_ratio=50, seq_length=32768)

    native = read(copy).config

    assert native["rope_parameters"]["rope_theta"] == 500_000
    assert native["max_position_embeddings"] == 32768


def test_without_a_tokenizer_it_can_be_planned_with(copy: Path) -> None:
    (copy / "tokenizer.model").unlink()

    recipe = read(copy)

    assert recipe.tokenizer is None
    assert recipe.config["eos_token_id"] == [2]
    named = Companions(tokenizer=CHECKPOINT / "tokenizer.model")
    assert read(copy, named).config["eos_token_id"] == [2, 646, 648]


def test_headers_are_enough_to_plan_with(tmp_path: Path) -> None:
    recipe = read(checkpoints.chatglm3_6b(tmp_path / "glm"))

    assert len(recipe.sources) == 28 * 11 + 3  # with biases: its config says nothing of them, its tensors do


def test_words_are_counted_as_the_library_does() -> None:
    assert count_pieces(CHECKPOINT / "tokenizer.model") == 640


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 30, b"IQ== 0\nIg== 1\n" * 50, b"\x0a\x7fshort", b"\x0a\xff\xff\xff\xff\x0f"]
)
def test_what_is_no_sentencepiece_file_has_no_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.model").write_bytes(content)

    assert count_pieces(tmp_path / "tokenizer.model") is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"quantization_bit": 4}, "quantization_bit = 4"),
        ({"pre_seq_len": 128}, "pre_seq_len = 128"),
        ({"rmsnorm": False}, "rmsnorm = False"),
        ({"add_bias_linear": True}, "add_bias_linear = True"),
        ({"apply_residual_connection_post_layernorm": True}, "post_layernorm = True"),
        ({"_name_or_path": "THUDM/chatglm2-6b"}, "THUDM/chatglm2-6b, which was taught another format"),
    ],
)
def test_variants_that_glm_does_not_compute_are_refused(
    copy: Path, changes: dict[str, Any], sentence: str
) -> None:
    rewrite(copy, **changes)

    with pytest.raises(ModelUnsupported, match=sentence):
        read(copy)


def test_an_older_one_is_talked_to_all_the_same_where_a_person_says_so(copy: Path) -> None:
    rewrite(copy, _name_or_path="THUDM/chatglm2-6b")

    assert read(copy, Companions(template="chatglm3")).sources


def test_another_template_is_refused() -> None:
    with pytest.raises(SettingInvalid, match="template can't be vqa"):
        read(CHECKPOINT, Companions(template="vqa"))


def test_glm_4_is_told_apart_by_its_words_and_the_native_one_is_named(copy: Path) -> None:
    (copy / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n" * 100)

    with pytest.raises(ModelUnsupported, match=r"not a file of SentencePiece.*glm-4-9b-chat-hf"):
        read(copy)


def test_a_size_that_is_not_said_is_named(copy: Path) -> None:
    rewrite(copy, kv_channels="many")

    with pytest.raises(ModelDamaged, match="does not say kv_channels"):
        read(copy)


@pytest.mark.parametrize("layers", [1, 3, 2_000_000_000])
def test_more_or_fewer_layers_than_stated_are_damage_with_figures(copy: Path, layers: int) -> None:
    rewrite(copy, num_layers=layers)

    with pytest.raises(ModelDamaged, match=r"hold 25 tensors .* asks for [\d,]+; model\.layers"):
        read(copy)


def test_a_fused_tensor_of_another_size_is_damage_with_figures(copy: Path) -> None:
    rewrite(copy, multi_query_group_num=4)

    with pytest.raises(ModelDamaged, match=r"query_key_value.* has 128 rows, and config.json asks for 192"):
        read(copy)


def test_a_missing_tensor_is_named(copy: Path) -> None:
    gone = name_in("dense_4h_to_h")
    change_shard(copy, lambda tensors: tensors.__delitem__(gone))
    index = copy / "pytorch_model.bin.index.json"
    stated = json.loads(index.read_text(encoding="utf-8"))
    stated["weight_map"].pop(gone)
    index.write_text(json.dumps(stated), encoding="utf-8")

    with pytest.raises(ModelDamaged, match=r"hold 24 tensors .* for 25; model\.layers\.0\.mlp\.down_proj"):
        read(copy)


def name_in(part: str) -> str:
    index = json.loads((CHECKPOINT / "pytorch_model.bin.index.json").read_text(encoding="utf-8"))
    places: dict[str, str] = index["weight_map"]
    return next(name for name, file in sorted(places.items()) if part in name and file == SHARD)


def test_a_tensor_of_something_else_is_not_left_out_in_silence(copy: Path) -> None:
    change_shard(copy, lambda tensors: tensors.update({"transformer.vision.conv.weight": torch.ones(2)}))

    with pytest.raises(ModelUnsupported, match=r"1 tensors .* such as transformer\.vision\.conv\.weight"):
        read(copy)
