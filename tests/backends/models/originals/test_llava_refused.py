"""LLaVA checkpoints that lack something or belong elsewhere: clear errors, with figures and a remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from backends.errors import ModelDamaged, ModelUnsupported, SettingInvalid, SnugError
from backends.models.checkpoint import read_json
from backends.models.originals.types import Companions
from tests.support.original_llava import FIXTURES, folders, recipe_of

Breaking = Callable[[Path], None]
CLIP = "openai/clip-vit-tiny-patch14-56"
VICUNA = "vicuna-7b-v1.5-tiny"


def change(path: str, **values: Any) -> Breaking:
    """Set values in a JSON file, counted from the checkpoint's folder."""

    def broken(folder: Path) -> None:
        file = folder / path
        file.write_text(json.dumps(read_json(file) | values), encoding="utf-8")

    return broken


def lose(path: str) -> Breaking:
    def broken(folder: Path) -> None:
        for target in folder.glob(path) if "*" in path else [folder / path]:
            shutil.rmtree(target) if target.is_dir() else target.unlink()

    return broken


def retrain(path: str, key: str, shape: tuple[int, ...] | None) -> Breaking:
    """Give one tensor of a .bin another shape, or none."""

    def broken(folder: Path) -> None:
        tensors = torch.load(folder / path, weights_only=True)
        if shape is None:
            del tensors[key]
        else:
            tensors[key] = torch.zeros(shape)
        torch.save(tensors, folder / path)

    return broken


def cut(path: str) -> Breaking:
    def broken(folder: Path) -> None:
        data = (folder / path).read_bytes()
        (folder / path).write_bytes(data[: len(data) // 2])

    return broken


def absent_base(folder: Path) -> None:
    lose(f"../{VICUNA}")(folder)


LORA_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
PROJECTOR = "model.mm_projector.0.weight"
TOWER = "../openai/clip-vit-tiny-patch14-56/config.json"
FULL, LORA, BARE, TILED = (
    "llava-v1.5-full",
    "llava-v1.5-lora",
    "llava-v1.5-projector-only",
    "llava-v1.6-vicuna",
)

TABLE: dict[str, tuple[str, Breaking, type[SnugError], tuple[str, ...]]] = {
    "no tower": (FULL, lose("../openai"), ModelUnsupported, (CLIP, "vision_tower=PATH", "leaves out")),
    "no tower named": (
        FULL,
        change("config.json", mm_vision_tower=None),
        ModelUnsupported,
        ("does not name", "vision_tower=PATH"),
    ),
    "a tower that is a number": (
        FULL,
        change("config.json", mm_vision_tower=7),
        ModelUnsupported,
        ("does not name", "vision_tower=PATH"),
    ),
    "a tower of another kind": (
        FULL,
        change(TOWER, model_type="siglip_vision_model"),
        ModelUnsupported,
        ("siglip_vision_model", "CLIP"),
    ),
    "a tower without weights": (FULL, lose("../openai/*/pytorch_model.bin"), SnugError, ("weights",)),
    "a tower of another width": (
        FULL,
        change(
            TOWER,
            vision_config={"hidden_size": 96, "image_size": 56, "patch_size": 14, "num_hidden_layers": 3},
        ),
        ModelUnsupported,
        ("48", "96", "different models"),
    ),
    "no base of a LoRA": (LORA, absent_base, ModelUnsupported, (VICUNA, "base=PATH")),
    "no base of a projector": (BARE, absent_base, ModelUnsupported, (VICUNA, "base=PATH")),
    "a LoRA of another width": (
        LORA,
        retrain("adapter_model.bin", LORA_A, (8, 128)),
        ModelUnsupported,
        ("64 x 128", "64 x 64", "base=PATH"),
    ),
    "a LoRA for another base": (
        LORA,
        change("config.json", hidden_size=128),
        ModelUnsupported,
        ("128", "64", VICUNA),
    ),
    "half a pair": (LORA, retrain("adapter_model.bin", LORA_A, None), ModelDamaged, ("q_proj", "missing")),
    "a LoRA without its matrices": (LORA, lose("adapter_model.bin"), ModelDamaged, ("adapter_model",)),
    "a LoRA without a projector": (
        LORA,
        lose("non_lora_trainables.bin"),
        ModelDamaged,
        ("multi_modal_projector",),
    ),
    "a weight-decomposed LoRA": (
        LORA,
        change("adapter_config.json", use_dora=True),
        ModelUnsupported,
        ("use_dora",),
    ),
    "alpha is no number": (
        LORA,
        change("adapter_config.json", lora_alpha="x"),
        ModelDamaged,
        ("lora_alpha", "x"),
    ),
    "a projector of another width": (
        BARE,
        retrain("mm_projector.bin", PROJECTOR, (64, 40)),
        ModelUnsupported,
        ("64 x 40", "64 x 32"),
    ),
    "a shard that is missing": (FULL, lose("pytorch_model-00002-of-00002.bin"), ModelDamaged, ("00002",)),
    "a shard that is cut short": (FULL, cut("pytorch_model-00001-of-00002.bin"), SnugError, ("00001",)),
    "a base that is cut short": (
        LORA,
        cut(f"../{VICUNA}/pytorch_model-00001-of-00002.bin"),
        SnugError,
        ("00001",),
    ),
    "no projector": (
        FULL,
        retrain("pytorch_model-00002-of-00002.bin", PROJECTOR, None),
        ModelDamaged,
        ("mm_projector",),
    ),
    "fewer layers than stated": (
        FULL,
        change("config.json", num_hidden_layers=3),
        ModelDamaged,
        ("hold 2 decoder layers", "says 3"),
    ),
    "more layers than stated": (
        FULL,
        change("config.json", num_hidden_layers=1),
        ModelDamaged,
        ("hold 2 decoder layers", "says 1"),
    ),
    "a base with more layers than stated": (
        LORA,
        change("config.json", num_hidden_layers=1),
        SnugError,
        ("layers",),
    ),
    "a tower with more layers than stated": (
        FULL,
        change(
            TOWER,
            vision_config={"hidden_size": 48, "image_size": 56, "patch_size": 14, "num_hidden_layers": 2}
            | {"intermediate_size": 96, "num_attention_heads": 4},
        ),
        ModelDamaged,
        ("16 weights", "encoder.layers.2."),
    ),
    "a deeper projector than stated": (
        FULL,
        change("config.json", mm_projector_type="linear"),
        ModelDamaged,
        ("2 weights", "mm_projector.2."),
    ),
    "a projector's weights where an activation is": (
        BARE,
        retrain("mm_projector.bin", "model.mm_projector.1.weight", (4, 4)),
        ModelDamaged,
        ("1 weight", "mm_projector.1.weight"),
    ),
    "weights that no LLaVA has": (
        LORA,
        retrain("non_lora_trainables.bin", "base_model.model.model.vision_resampler.query", (4, 4)),
        ModelDamaged,
        ("1 weight", "vision_resampler.query"),
    ),
    "biases that are not stated": (
        LORA,
        retrain("non_lora_trainables.bin", "base_model.model.model.layers.0.self_attn.q_proj.bias", (64,)),
        ModelDamaged,
        ("1 weight", "q_proj.bias"),
    ),
    "another language model": (
        FULL,
        change("config.json", architectures=["LlavaMptForCausalLM"], model_type="llava_mpt"),
        ModelUnsupported,
        ("LlavaMptForCausalLM", "Mistral"),
    ),
    "a projector of unknown kind": (
        FULL,
        change("config.json", mm_projector_type="ldpnetv2"),
        ModelUnsupported,
        ("ldpnetv2",),
    ),
    "tiles by a later method": (
        TILED,
        change("config.json", image_aspect_ratio="anyres_max_9"),
        ModelUnsupported,
        ("anyres_max_9",),
    ),
    "line ends without cutting": (
        TILED,
        change("config.json", mm_patch_merge_type="spatial"),
        ModelUnsupported,
        ("spatial",),
    ),
    "class tokens in tiles": (
        TILED,
        change("config.json", mm_vision_select_feature="cls_patch"),
        ModelUnsupported,
        ("cls_patch",),
    ),
    "a resampler": (FULL, change("config.json", mm_resampler_type="qformer"), ModelUnsupported, ("qformer",)),
    "a width that is a text": (FULL, change("config.json", hidden_size="64"), ModelDamaged, ("hidden_size",)),
    "no heads": (FULL, change("config.json", num_attention_heads=0), ModelDamaged, ("num_attention_heads",)),
    "heads that don't divide": (FULL, change("config.json", num_key_value_heads=3), ModelDamaged, ("3",)),
    "a layer beyond the tower": (
        FULL,
        change("config.json", mm_vision_select_layer=-9),
        ModelDamaged,
        ("mm_vision_select_layer", "-9"),
    ),
    "pinpoints that are code": (
        TILED,
        change("config.json", image_grid_pinpoints="__import__('os')"),
        ModelDamaged,
        ("image_grid_pinpoints",),
    ),
    "pinpoints of other tiles": (
        TILED,
        change("config.json", image_grid_pinpoints=[[60, 112]]),
        ModelDamaged,
        ("60 x 112",),
    ),
    "an endless frequency": (
        FULL,
        change("config.json", rope_theta=float("nan")),
        ModelDamaged,
        ("rope_theta",),
    ),
}

VALUES: dict[str, tuple[object, ...]] = {
    "eos_token_id": ("x", [2, "x"], {}, True),
    "bos_token_id": ("x", 1.5),
    "pad_token_id": ("x", 480, -481),
    "rope_scaling": ("x", {"type": "zz"}, {"type": "linear"}, {"type": "linear", "factor": "x"}, {"type": 3}),
    "rope_parameters": ([], {"rope_type": "default", "rope_theta": "x"}),
    "rms_norm_eps": ("x", -1),
    "rope_theta": ("x", 0),
    "hidden_act": (5, ["silu"]),
    "attention_bias": ("yes",),
    "mlp_bias": (1,),
    "tie_word_embeddings": ("no",),
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in VALUES.items() for value in values]
)
def test_a_value_that_cannot_be_is_named(key: str, value: object, tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / FULL / "checkpoint", tmp_path / "models")
    folder = tmp_path / "models" / folders(FULL)[0].name
    change("config.json", **{key: value})(folder)
    with pytest.raises(ModelDamaged, match=f"config.json gives {key} as ") as raised:
        recipe_of(folder)
    assert str(value) in str(raised.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope_scaling", {"type": "linear", "factor": 2.0}),
        ("rope_scaling", {"rope_type": "dynamic", "factor": 4}),
        ("eos_token_id", [2, 3]),
        ("pad_token_id", -1),
    ],
)
def test_a_value_that_can_be_is_kept(key: str, value: object, tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / FULL / "checkpoint", tmp_path / "models")
    folder = tmp_path / "models" / folders(FULL)[0].name
    change("config.json", **{key: value})(folder)
    native = recipe_of(folder).config
    assert native["text_config"][key] == value
    AutoConfig.for_model(**native)


@pytest.mark.parametrize("path", ["config.json", TOWER], ids=["text", "tower"])
def test_a_function_that_nobody_knows_is_refused(path: str, tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / FULL / "checkpoint", tmp_path / "models")
    folder = tmp_path / "models" / folders(FULL)[0].name
    stated = read_json(folder / path)
    where = stated["vision_config"] if path == TOWER else stated
    where["hidden_act"] = "zz"
    (folder / path).write_text(json.dumps(stated), encoding="utf-8")
    with pytest.raises(ModelUnsupported, match=r"config.json names zz as (vision_config\.)?hidden_act"):
        recipe_of(folder)


@pytest.mark.parametrize(("fixture", "breaking", "kind", "words"), TABLE.values(), ids=TABLE.keys())
def test_it_says_what_is_wrong(
    fixture: str, breaking: Breaking, kind: type[SnugError], words: tuple[str, ...], tmp_path: Path
) -> None:
    shutil.copytree(FIXTURES / fixture / "checkpoint", tmp_path / "models")
    folder = tmp_path / "models" / folders(fixture)[0].name
    breaking(folder)
    with pytest.raises(kind) as raised:
        recipe_of(folder)
    said = str(raised.value)
    assert [word for word in words if word not in said] == [], said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "key",
    [
        "model.image_newline",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.vision_tower.vision_tower.text_model.embeddings.token_embedding.weight",
        "optimizer.state.exp_avg",
    ],
)
def test_what_answers_nothing_may_be_beside_the_weights(key: str, tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / BARE / "checkpoint", tmp_path / "models")
    folder = tmp_path / "models" / folders(BARE)[0].name
    before = recipe_of(folder).sources
    retrain("mm_projector.bin", key, (4,))(folder)
    assert recipe_of(folder).sources == before


def test_an_unknown_template_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingInvalid, match=r"v1, .*mistral_instruct.*chatml_direct"):
        recipe_of(folders(FULL)[0], Companions(template="vqa"))


@pytest.mark.parametrize("tower", [True, False], ids=["tower", "base"])
def test_a_given_folder_that_is_no_model(tower: bool, tmp_path: Path) -> None:
    given = Companions(vision_tower=tmp_path) if tower else Companions(base=tmp_path)
    with pytest.raises(ModelUnsupported, match=r"no config\.json"):
        recipe_of(folders(LORA)[0], given)


def test_a_base_that_is_an_adapter_itself() -> None:
    lora, bare = folders(LORA)[0], folders(BARE)[0]
    with pytest.raises(ModelUnsupported, match="an adapter itself"):
        recipe_of(bare, Companions(base=lora))


def test_a_projector_that_names_no_base(tmp_path: Path) -> None:
    folder = tmp_path / "a projector"
    shutil.copytree(folders(BARE)[0], folder)
    change("config.json", _name_or_path="")(folder)
    with pytest.raises(ModelUnsupported, match="does not say") as raised:
        recipe_of(folder)
    assert "base=PATH" in str(raised.value)
