"""Original LLaVA checkpoints as recipes: what is recognised, where weights come from, what is chosen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
)

from backends.models.checkpoint import read_json
from backends.models.originals.llava import llava_recipe
from backends.models.originals.llava_config import inferred_vision, native_config, text_settings
from backends.models.originals.llava_limits import is_llava
from backends.models.originals.llava_names import expected_shapes
from backends.models.originals.types import Companions
from tests.support.original_llava import FIXTURES, NAMES, folders, nowhere, recipe_of, values

EVERY = [folder for name in NAMES for folder in folders(name)]
each_folder = pytest.mark.parametrize("folder", EVERY, ids=lambda folder: folder.name)


def copied(fixture: str, tmp_path: Path) -> Path:
    """A copy of the fixture's checkpoints; returns the folder of the one to open."""
    shutil.copytree(FIXTURES / fixture / "checkpoint", tmp_path / "models")
    return tmp_path / "models" / folders(fixture)[0].name


def change(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(read_json(path) | values), encoding="utf-8")


def shapes_of(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the state dict of transformers' own class."""
    tiled = config["model_type"] == "llava_next"
    with torch.device("meta"):
        if tiled:
            state = LlavaNextForConditionalGeneration(LlavaNextConfig(**config)).state_dict()
        else:
            state = LlavaForConditionalGeneration(LlavaConfig(**config)).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@each_folder
def test_every_weight_of_the_native_class_has_a_source(folder: Path) -> None:
    recipe = recipe_of(folder)
    assert {name: tuple(value.shape) for name, value in values(recipe).items()} == shapes_of(
        dict(recipe.config)
    )


@each_folder
def test_a_checkpoint_is_recognised_by_its_content(folder: Path) -> None:
    assert is_llava(read_json(folder / "config.json"), folder)


@pytest.mark.parametrize(
    ("size", "family"),
    [
        pytest.param((4096, 11008, 32, 32, 32), "llama", id="7B"),
        pytest.param((5120, 13824, 40, 40, 40), "llama", id="13B"),
        pytest.param((4096, 14336, 32, 32, 8), "mistral", id="7B Mistral"),
        pytest.param((7168, 20480, 60, 56, 8), "llama", id="34B"),
    ],
)
@pytest.mark.parametrize("tiled", [False, True], ids=["v1.5", "v1.6"])
def test_names_and_shapes_of_released_sizes(
    size: tuple[int, ...], family: str, tiled: bool, tmp_path: Path
) -> None:
    keys = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
    )
    config: dict[str, Any] = dict(zip(keys, size, strict=True)) | {"mm_projector_type": "mlp2x_gelu"}
    if tiled:
        config |= {"image_aspect_ratio": "anyres", "mm_patch_merge_type": "spatial_unpad"}
        config["image_grid_pinpoints"] = "[(336, 672), (672, 336)]"
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "image_size": 336,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
        "num_channels": 3,
    }
    native = native_config(config, text_settings(config, family, 32000, tmp_path), vision, 0, tmp_path)
    assert expected_shapes(native) == shapes_of(native)
    assert native["image_seq_length"] == 576
    assert inferred_vision(expected_shapes(native)) == vision | {
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    }


@pytest.mark.parametrize("fixture", NAMES)
def test_no_folder_name_matters(fixture: str, tmp_path: Path) -> None:
    folder = copied(fixture, tmp_path)
    expected = recipe_of(folder)
    renamed = folder.rename(folder.parent / "新 model of mine")
    found = recipe_of(renamed)
    assert (found.config, found.template, found.sources.keys()) == (
        expected.config,
        expected.template,
        expected.sources.keys(),
    )


def test_pinpoints_turn_from_width_first_to_height_first() -> None:
    recipe = recipe_of(folders("llava-v1.6-vicuna")[0])
    stated = read_json(recipe.folder / "config.json")["image_grid_pinpoints"]
    assert recipe.config["image_grid_pinpoints"] == [[height, width] for width, height in stated]
    assert recipe.config["architectures"] == ["LlavaNextForConditionalGeneration"]


def test_the_trained_tower_inside_wins_over_the_named_one() -> None:
    recipe = recipe_of(folders("llava-v1.6-vicuna")[0])
    assert recipe.companions.vision_tower is not None
    assert all(recipe.folder == source.part.file.parent for source in recipe.sources.values())


def test_a_tower_inside_that_was_not_trained_yields_to_the_named_one(tmp_path: Path) -> None:
    folder = copied("llava-v1.6-vicuna", tmp_path)
    change(folder, unfreeze_mm_vision_tower=False)
    tower = recipe_of(folder).sources["model.vision_tower.pre_layrnorm.weight"]
    assert tower.part.file.parent.name.startswith("clip-vit")


@pytest.mark.parametrize(
    ("place", "stated"),
    [
        pytest.param("models/openai/clip-vit-tiny-patch14-56", None, id="beside, under the whole name"),
        pytest.param("models/clip-vit-tiny-patch14-56", None, id="beside, under its last part"),
        pytest.param("models/{own}/tower", "tower", id="inside"),
        pytest.param("models/{own}/tower", "./tower", id="inside, as a path"),
        pytest.param("elsewhere/clip", "../elsewhere/clip", id="beside the folder of models"),
        pytest.param("models/sub/clip", "sub\\clip", id="Windows separators"),
        pytest.param("models/clip", "D:\\models\\openai\\clip", id="another machine's path"),
        pytest.param("models/clip", "/home/somebody/clip/", id="another system's path"),
        pytest.param("far away/clip", "{root}/far away/clip", id="absolute"),
    ],
)
def test_the_tower_is_found(place: str, stated: str | None, tmp_path: Path) -> None:
    folder = copied("llava-v1.5-full", tmp_path)
    target = tmp_path / place.format(own=folder.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder.parent / "openai/clip-vit-tiny-patch14-56", tmp_path / "moved")
    shutil.move(tmp_path / "moved", target)
    if stated is not None:
        change(folder, mm_vision_tower=stated.format(root=tmp_path))
    found = recipe_of(folder).companions.vision_tower
    assert found is not None
    assert found.resolve() == target.resolve()


def test_the_tower_may_be_given_or_found_elsewhere(tmp_path: Path) -> None:
    folder = copied("llava-v1.5-full", tmp_path)
    tower = Path(shutil.move(folder.parent / "openai/clip-vit-tiny-patch14-56", tmp_path / "clip"))
    given = recipe_of(folder, Companions(vision_tower=tower / "pytorch_model.bin"))
    asked: list[str] = []
    stated = read_json(folder / "config.json")

    def finder(name: str) -> Path:
        asked.append(name)
        return tower

    found = llava_recipe(folder, stated, Companions(), finder)
    assert asked == [stated["mm_vision_tower"]]
    assert given.sources == found.sources


def test_a_tower_of_the_vision_half_alone_is_as_good(tmp_path: Path) -> None:
    folder = copied("llava-v1.5-full", tmp_path)
    tower = folder.parent / "openai/clip-vit-tiny-patch14-56"
    expected = values(recipe_of(folder))
    whole = torch.load(tower / "pytorch_model.bin", weights_only=True)
    (tower / "pytorch_model.bin").unlink()
    vision = read_json(tower / "config.json")["vision_config"]
    for flat in (False, True):
        kept = {name: tensor for name, tensor in whole.items() if name.startswith("vision_model.")}
        named = {
            name.removeprefix("vision_model.") if flat else name: tensor for name, tensor in kept.items()
        }
        torch.save(named, tower / "pytorch_model.bin")
        (tower / "config.json").write_text(json.dumps(vision | {"model_type": "clip_vision_model"}), "utf-8")
        found = recipe_of(folder)
        read = torch.load(tower / "pytorch_model.bin", weights_only=True)
        for name, source in found.sources.items():
            if source.part.file.parent == tower:
                assert torch.equal(read[source.part.key].float(), expected[name])


def test_a_lora_changes_the_language_model_and_brings_its_projector() -> None:
    recipe = recipe_of(folders("llava-v1.5-lora")[0])
    changed = {name for name, source in recipe.sources.items() if source.deltas}
    assert len(changed) == 2 * 7
    assert all(name.startswith("model.language_model.layers.") for name in changed)
    settings = read_json(recipe.folder / "adapter_config.json")
    delta = recipe.sources["model.language_model.layers.0.self_attn.q_proj.weight"].deltas[0]
    assert delta.scale == settings["lora_alpha"] / settings["r"]
    projector = recipe.sources["model.multi_modal_projector.linear_2.bias"]
    assert projector.part.file.name == "non_lora_trainables.bin"
    assert recipe.tokenizer.name == "vicuna-7b-v1.5-tiny"


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        pytest.param({"use_rslora": True}, 16 / 8**0.5, id="rank-stabilised"),
        pytest.param({"alpha_pattern": {"q_proj": 4}}, 0.5, id="another alpha for this module"),
        pytest.param({"alpha_pattern": {"layers.1.self_attn.q_proj": 4}}, 2.0, id="for another layer"),
    ],
)
def test_the_scale_of_a_lora(settings: dict[str, Any], scale: float, tmp_path: Path) -> None:
    folder = copied("llava-v1.5-lora", tmp_path)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(read_json(path) | settings), encoding="utf-8")
    source = recipe_of(folder).sources["model.language_model.layers.0.self_attn.q_proj.weight"]
    assert source.deltas[0].scale == pytest.approx(scale)


def test_a_table_that_was_enlarged_in_training_wins(tmp_path: Path) -> None:
    folder = copied("llava-v1.5-lora", tmp_path)
    path = folder / "non_lora_trainables.bin"
    trained = torch.load(path, weights_only=True)
    rows = torch.zeros(467, 64, dtype=torch.float16)
    trained["base_model.model.model.embed_tokens.weight"] = rows
    trained["base_model.model.lm_head.weight"] = rows.clone()
    torch.save(trained, path)
    recipe = recipe_of(folder)
    assert recipe.config["text_config"]["vocab_size"] == 467
    assert recipe.sources["lm_head.weight"].part.file.name == "non_lora_trainables.bin"


def test_a_lora_over_a_llava_takes_that_ones_settings(tmp_path: Path) -> None:
    folder = copied("llava-v1.5-lora", tmp_path)
    base = folder.parent / "vicuna-7b-v1.5-tiny"
    own = read_json(folder / "config.json")
    change(
        base,
        **{key: value for key, value in own.items() if key.startswith("mm_")},
        architectures=own["architectures"],
    )
    (folder / "config.json").unlink()
    recipe = llava_recipe(folder, {}, Companions(), nowhere)
    assert is_llava({}, folder)
    assert recipe.config["model_type"] == "llava"


def test_a_bare_projector_finds_the_one_model_that_fits(tmp_path: Path) -> None:
    folder = copied("llava-v1.5-projector-only", tmp_path)
    base = folder.parent / "vicuna-7b-v1.5-tiny"
    renamed = base.rename(folder.parent / "a language model")
    assert recipe_of(folder).companions.base == renamed
    other = shutil.copytree(renamed, folder.parent / "its copy")
    assert recipe_of(folder, Companions(base=other)).companions.base == other


@pytest.mark.parametrize(
    ("words", "placeholder"),
    [({}, 0), ({"unk_token": None}, 463)],
    ids=["the unknown token of SentencePiece", "the last row where there is none"],
)
def test_a_picture_stands_on_an_id_that_no_text_becomes(
    words: dict[str, Any], placeholder: int, tmp_path: Path
) -> None:
    folder = copied("llava-v1.5-lora", tmp_path)
    base = folder.parent / "vicuna-7b-v1.5-tiny"
    if words:
        (base / "tokenizer.model").rename(base / "tokenizer.json")
        path = base / "tokenizer_config.json"
        path.write_text(json.dumps(read_json(path) | words), encoding="utf-8")
    assert recipe_of(folder).config["image_token_index"] == placeholder


@pytest.mark.parametrize(
    ("aspect", "merge", "kind"),
    [
        ("pad", "spatial_unpad", "llava"),
        (None, "flat", "llava"),
        ("square", "flat", "llava"),
        ("anyres", "flat", "llava"),
        ("anyres", "spatial_unpad", "llava_next"),
    ],
)
def test_the_class_follows_how_tiles_are_merged(
    aspect: str | None, merge: str, kind: str, tmp_path: Path
) -> None:
    folder = copied("llava-v1.6-vicuna", tmp_path)
    change(folder, image_aspect_ratio=aspect, mm_patch_merge_type=merge)
    assert recipe_of(folder).config["model_type"] == kind


@pytest.mark.parametrize(
    ("stated", "folder_name", "template"),
    [
        pytest.param("llava-llama-2-13b-chat", "any", "llava_llama_2", id="the authors' name"),
        pytest.param("llava-v1.5-7b", "llama-2-chat", "v1", id="a renamed folder"),
        pytest.param("", "llama-2-chat", "llava_llama_2", id="no other name"),
    ],
)
def test_a_name_is_the_last_hint_at_the_format(
    stated: str, folder_name: str, template: str, tmp_path: Path
) -> None:
    folder = copied("llava-v1.5-full", tmp_path)
    change(folder, _name_or_path=stated)
    renamed = folder.rename(folder.parent / folder_name)
    assert recipe_of(renamed).template == template
    assert recipe_of(renamed, Companions(template="llava_v0")).template == "v0"


def test_mistral_attends_to_everything_as_the_original_does(tmp_path: Path) -> None:
    folder = copied("llava-v1.6-mistral", tmp_path)
    change(folder, sliding_window=64)
    assert recipe_of(folder).config["text_config"]["sliding_window"] is None


def test_what_a_person_names_wins(tmp_path: Path) -> None:
    folder = copied("llava-v1.5-full", tmp_path)
    words = shutil.copytree(folder, tmp_path / "words")
    assert recipe_of(folder, Companions(tokenizer=words)).tokenizer == words
    assert recipe_of(folder, Companions(tokenizer=words / "tokenizer.model")).tokenizer == words
