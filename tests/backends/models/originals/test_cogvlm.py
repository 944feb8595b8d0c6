"""CogVLM checkpoints become recipes by what they hold; what does not belong together is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from backends.errors import ModelDamaged, ModelUnsupported, SettingInvalid
from backends.models.checkpoint import read_json
from backends.models.originals.cogvlm import cogvlm_recipe, tokenizer_absent
from backends.models.originals.cogvlm_words import find_words
from backends.models.originals.types import Companions, Recipe

FIXTURES = Path(__file__).parents[3] / "fixtures"
V1 = FIXTURES / "cogvlm-chat" / "checkpoint"
V2 = FIXTURES / "cogvlm2-llama3-chat" / "checkpoint" / "cogvlm2-llama3-chat-19B-tiny"


def nowhere(_: str) -> None:
    """A finder that finds nothing."""


def alone(tmp_path: Path, source: Path = V1 / "cogvlm-chat-hf-tiny", **changes: Any) -> Path:
    """A copy with nothing beside it."""
    folder = tmp_path / "any name"
    shutil.copytree(source, folder)
    config = read_json(folder / "config.json") | changes
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def read(folder: Path, **named: object) -> Recipe:
    companions = Companions(**named)  # type: ignore[arg-type]
    return cogvlm_recipe(folder, read_json(folder / "config.json"), companions, nowhere)


def test_the_two_generations_differ_in_what_their_files_hold() -> None:
    keys = ("num_key_value_heads", "vision_qkv_bias", "spatial_merge_size", "rope_theta", "image_token_id")
    assert [read(V1 / "cogvlm-chat-hf-tiny").config[key] for key in keys] == [4, False, 1, 10_000.0, 0]
    assert [read(V2).config[key] for key in keys] == [2, True, 2, 500_000.0, 472]


@pytest.mark.parametrize("name", ["vicuna-7b-v1.5", "vicuna-7b-v1.5-tokenizer", "my-Vicuna-13b", "words"])
def test_a_tokenizer_beside_it_is_found(tmp_path: Path, name: str) -> None:
    folder = alone(tmp_path)
    shutil.copytree(V1 / "vicuna-7b-v1.5-tokenizer", tmp_path / name)
    assert read(folder).tokenizer == tmp_path / name


def test_a_tokenizer_elsewhere_is_asked_for_by_its_hub_name(tmp_path: Path) -> None:
    folder = alone(tmp_path)
    asked = []

    def finder(name: str) -> Path:
        asked.append(name)
        return V1 / "vicuna-7b-v1.5-tokenizer"

    recipe = cogvlm_recipe(folder, read_json(folder / "config.json"), Companions(), finder)
    assert recipe.tokenizer == V1 / "vicuna-7b-v1.5-tokenizer"
    assert asked == ["lmsys/vicuna-7b-v1.5"]


def test_without_a_tokenizer_it_is_said_where_to_put_one(tmp_path: Path) -> None:
    recipe = read(alone(tmp_path))
    assert recipe.tokenizer is None
    error = tokenizer_absent(recipe)
    assert "lmsys/vicuna-7b-v1.5" in str(error)
    assert "--set tokenizer=PATH" in str(error)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    place = V1 / "vicuna-7b-v1.5-tokenizer"
    with pytest.raises(ModelUnsupported, match="480 words, and this one knows 300"):
        read(alone(tmp_path, vocab_size=300), tokenizer=place)


@pytest.mark.parametrize("size", [0, 1 << 27], ids=["empty", "huge"])
def test_a_file_that_is_no_tokenizer_is_not_found(tmp_path: Path, size: int) -> None:
    folder = alone(tmp_path)
    place = tmp_path / "vicuna-7b-v1.5"
    shutil.copytree(V1 / "vicuna-7b-v1.5-tokenizer", place)
    assert find_words(folder, None, 480, nowhere) == place
    with (place / "tokenizer.model").open("r+b") as file:
        file.truncate(size)
    assert find_words(folder, None, 480, nowhere) is None


def test_a_place_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupported, match="holds neither"):
        read(alone(tmp_path), tokenizer=tmp_path)


@pytest.mark.parametrize("template", ["chat", "vqa", "base"])
def test_a_template_is_chosen(template: str) -> None:
    assert read(V2, template=template).template == template


def test_an_unknown_template_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingInvalid, match="chat, vqa, base"):
        read(V2, template="alpaca")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_attention_heads": 5}, "divides 64 into 5 heads"),
        ({"hidden_size": None}, "no size for hidden_size"),
        ({"vision_config": {}}, "no size for hidden_size"),
        ({"pad_token_id": None, "num_multi_query_heads": 2}, "128,002, .* outside of its vocabulary of 480"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelDamaged, match=reason):
        read(alone(tmp_path, **changes))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("rope_theta", value) for value in ("abc", 0, -1, True, float("inf"))),
        *(("rms_norm_eps", value) for value in ("x", -1, [])),
        *(("max_position_embeddings", value) for value in ("many", 0, 2.5)),
        *(("bos_token_id", value) for value in ("x", None, -1, 480, False)),
        *(("pad_token_id", value) for value in (-1, True, 480, "0")),
        *(("eos_token_id", value) for value in ("x", [2, "x"], 480, -1, {})),
        *(("vocab_size", value) for value in ("x", 0)),
        *(("num_multi_query_heads", value) for value in ("2", 0)),
        *(("hidden_act", value) for value in (5, ["silu"])),
        ("tie_word_embeddings", "no"),
    ],
)
def test_a_value_that_cannot_be_is_named(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(ModelDamaged, match=rf"config\.json gives {key} as .*, which can't be"):
        read(alone(tmp_path, **{key: value}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("in_channels", "4"),
        ("in_channels", 4),
        ("layer_norm_eps", "q"),
        ("layer_norm_eps", 0),
        ("hidden_act", 5),
    ],
)
def test_a_towers_value_that_cannot_be_is_named(tmp_path: Path, key: str, value: object) -> None:
    tower = read_json(V1 / "cogvlm-chat-hf-tiny" / "config.json")["vision_config"] | {key: value}
    with pytest.raises(ModelDamaged, match=rf"gives vision_config\.{key} as {value}"):
        read(alone(tmp_path, vision_config=tower))


def test_a_function_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    tower = read_json(V1 / "cogvlm-chat-hf-tiny" / "config.json")["vision_config"]
    with pytest.raises(ModelUnsupported, match="names zz as hidden_act"):
        read(alone(tmp_path / "text", hidden_act="zz"))
    with pytest.raises(ModelUnsupported, match=r"names zz as vision_config\.hidden_act"):
        read(alone(tmp_path / "tower", vision_config=tower | {"hidden_act": "zz"}))


@pytest.mark.parametrize(
    ("generation", "config", "ends"),
    [
        ({"eos_token_id": 5}, 2, [5]),
        ({"eos_token_id": [5, 6]}, 2, [5, 6]),
        ({}, 2, [2]),
        ({"eos_token_id": None}, [2, 3], [2, 3]),
        ({}, None, None),
        (None, None, None),
    ],
)
def test_its_ends_are_what_it_says_of_answers_first(
    tmp_path: Path, generation: dict[str, object] | None, config: object, ends: list[int] | None
) -> None:
    folder = alone(tmp_path, eos_token_id=config)
    (folder / "generation_config.json").unlink()
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    assert read(folder).config["eos_token_id"] == ends


@pytest.mark.parametrize("value", ["x", 480, [True]])
def test_an_end_that_cannot_be_is_named_with_its_file(tmp_path: Path, value: object) -> None:
    folder = alone(tmp_path)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": value}), encoding="utf-8")
    with pytest.raises(ModelDamaged, match=r"generation_config\.json gives eos_token_id as"):
        read(folder)


def test_a_missing_shard_is_said(tmp_path: Path) -> None:
    folder = alone(tmp_path)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelDamaged, match="model-00002-of-00002"):
        read(folder)


def retrained(folder: Path, key: str, shape: tuple[int, ...] | None) -> Path:
    """Give a tensor another shape, add it, or take it away, in the last shard and in the index."""
    shard, index = folder / "model-00002-of-00002.safetensors", folder / "model.safetensors.index.json"
    tensors, places = load_file(shard), read_json(index)
    if shape is None:
        del tensors[key], places["weight_map"][key]
    else:
        tensors[key], places["weight_map"][key] = torch.zeros(shape), shard.name
    save_file(tensors, shard, metadata={"format": "pt"})
    index.write_text(json.dumps(places), encoding="utf-8")
    return folder


@pytest.mark.parametrize("stated", [1, 3])
def test_other_layers_than_stated_are_refused(tmp_path: Path, stated: int) -> None:
    with pytest.raises(ModelDamaged, match=f"hold 2 decoder layers, and config.json says {stated}"):
        read(alone(tmp_path, num_hidden_layers=stated))


@pytest.mark.parametrize(
    ("key", "shape", "reason"),
    [
        ("model.vision.boi", None, "1 are in none of its files, the first is model.vision.boi"),
        ("model.vision.eoi", (1, 1, 32), "model.vision.eoi is 1 x 1 x 32 in .*, and .* makes it 1 x 1 x 64"),
        ("model.cross_vision.query", (4,), "hold 1 weight.* the first is model.cross_vision.query"),
        ("transformer.word_embeddings.weight", (4, 4), "the first is transformer.word_embeddings.weight"),
        ("model.vision.transformer.layers.2.mlp.fc1.bias", (96,), r"the first is .*layers\.2\.mlp"),
    ],
)
def test_weights_that_the_config_does_not_describe_are_refused(
    tmp_path: Path, key: str, shape: tuple[int, ...] | None, reason: str
) -> None:
    with pytest.raises(ModelDamaged, match=reason):
        read(retrained(alone(tmp_path), key, shape))


def test_what_training_left_is_no_weight(tmp_path: Path) -> None:
    folder = retrained(alone(tmp_path), "optimizer.state.exp_avg", (4,))
    assert "optimizer.state.exp_avg" not in read(folder).sources
