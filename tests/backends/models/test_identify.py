"""A folder becomes a ModelInfo from its config and headers, and every other folder gets a clear refusal."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backends.errors import InputError, ModelDamaged, ModelNotFound, ModelUnsupported
from backends.models.identify import ensure_loadable, identify
from backends.models.types import ModuleKind
from tests.support import checkpoints
from tests.support.shapes import write_file, write_model


def test_llava_15_7b_is_known_from_its_sparse_config(tmp_path: Path) -> None:
    model = identify(checkpoints.llava_15_7b(tmp_path / "llava-1.5-7b-hf"))

    assert model.name == "llava-1.5-7b-hf"
    assert (model.family, model.architecture) == ("llava", "LlavaForConditionalGeneration")
    assert model.parameters == 7_063_427_072
    assert model.weights_bytes == 2 * model.parameters
    assert model.dtype == "float16"
    assert (model.text.hidden, model.text.layers, model.text.heads, model.text.kv_heads) == (4096, 32, 32, 32)
    assert (model.text.intermediate, model.text.head_dim, model.text.vocab) == (11008, 128, 32064)
    assert model.text.max_context == 4096
    assert model.vision is not None
    assert (model.vision.tokens_per_image, model.vision.patches, model.vision.max_tiles) == (576, 577, 1)
    assert len(model.files) == 3
    assert not model.weights_present


def test_modules_are_in_execution_order(tmp_path: Path) -> None:
    model = identify(checkpoints.llava_16_mistral_7b(tmp_path / "m"))

    names = [module.name for module in model.modules]
    assert names[:5] == [
        "model.vision_tower",
        "model.multi_modal_projector",
        "model.image_newline",
        "model.language_model.rotary_emb",
        "model.language_model.embed_tokens",
    ]
    assert names[5:37] == [f"model.language_model.layers.{index}" for index in range(32)]
    assert names[37:] == ["model.language_model.norm", "lm_head"]


def test_a_tied_head_is_a_module_without_weights(tmp_path: Path) -> None:
    model = identify(checkpoints.starter_like(tmp_path / "starter"))

    head = model.modules[-1]
    assert (head.name, head.kind, head.parameters) == ("lm_head", ModuleKind.HEAD, 0)
    assert model.text.tied_embeddings
    assert model.parameters == 4_687_680
    assert model.weights_present


def test_linear_weights_of_a_layer_are_counted_for_quantization(tmp_path: Path) -> None:
    model = identify(checkpoints.llava_15_7b(tmp_path / "m"))

    layer = next(module for module in model.modules if module.kind is ModuleKind.LAYER)
    assert layer.linear_parameters == 4 * 4096 * 4096 + 3 * 4096 * 11008
    assert layer.linear_rows == 4 * 4096 + 2 * 11008 + 4096
    assert layer.parameters == layer.linear_parameters + 2 * 4096


def test_experts_are_counted_but_not_as_linear_layers(tmp_path: Path) -> None:
    config = {
        "model_type": "mixtral",
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 96,
    }
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (320, 64), "lm_head.weight": (320, 64)}
    for layer in range(2):
        shapes[f"model.layers.{layer}.self_attn.q_proj.weight"] = (64, 64)
        for expert in range(4):
            shapes[f"model.layers.{layer}.block_sparse_moe.experts.{expert}.w1.weight"] = (96, 64)

    model = identify(write_model(tmp_path / "moe", config, shapes))

    layer_module = next(module for module in model.modules if module.name == "model.layers.0")
    assert layer_module.parameters == 64 * 64 + 4 * 96 * 64
    assert layer_module.linear_parameters == 64 * 64
    assert model.text.intermediate == 2 * 96


def test_a_copy_of_headers_can_be_planned_with_but_not_loaded(tmp_path: Path) -> None:
    model = identify(checkpoints.llava_15_7b(tmp_path / "m"))

    with pytest.raises(ModelDamaged, match="headers only"):
        ensure_loadable(model)


def test_a_complete_copy_is_loadable(tmp_path: Path) -> None:
    ensure_loadable(identify(checkpoints.starter_like(tmp_path / "m")))


def test_paths_with_spaces_and_chinese_characters(tmp_path: Path) -> None:
    folder = checkpoints.starter_like(tmp_path / "my models" / "模型 甲")

    assert identify(folder).name == "模型 甲"


def _tiny(folder: Path, **config: Any) -> Path:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (32, 64),
        "model.layers.0.self_attn.q_proj.weight": (64, 64),
        "lm_head.weight": (32, 64),
    }
    return write_model(folder, config, shapes, weights=True)


@pytest.mark.parametrize(
    ("config", "kind", "sentence"),
    [
        pytest.param({}, ModelUnsupported, "names no model_type", id="no model_type"),
        pytest.param({"model_type": 7}, ModelUnsupported, "names no model_type", id="model_type is a number"),
        pytest.param({"model_type": "clip"}, ModelUnsupported, "does not answer questions", id="CLIP alone"),
        pytest.param({"model_type": "vit"}, ModelUnsupported, "does not answer questions", id="a classifier"),
        pytest.param(
            {"model_type": "cogvlm", "auto_map": {"AutoModel": "modeling.X"}},
            ModelUnsupported,
            "only with program code",
            id="needs remote code",
        ),
        pytest.param({"model_type": "llavva"}, ModelUnsupported, "nearest known one is llava", id="misspelt"),
        pytest.param({"model_type": "zzzz9"}, ModelUnsupported, "not an architecture", id="unheard of"),
    ],
)
def test_models_that_snug_cannot_run(
    tmp_path: Path, config: dict[str, Any], kind: type[InputError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        identify(_tiny(tmp_path / "m", **config))


def _only_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llava"}', encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "kind", "sentence"),
    [
        pytest.param(None, ModelNotFound, "no .safetensors weights", id="config alone"),
        pytest.param("pytorch_model.bin", ModelDamaged, "does not begin as", id="weights that are none"),
        pytest.param("model.gguf", ModelDamaged, "GGUF", id="a GGUF file that is none"),
        pytest.param("adapter_config.json", ModelUnsupported, "adapter", id="a LoRA adapter"),
        pytest.param("other.safetensors", ModelUnsupported, "neither", id="weights under another name"),
    ],
)
def test_folders_without_weights_that_can_be_read(
    tmp_path: Path, file: str | None, kind: type[InputError], sentence: str
) -> None:
    _only_config(tmp_path)
    if file is not None:
        (tmp_path / file).write_bytes(b"{}")

    with pytest.raises(kind, match=sentence):
        identify(tmp_path)


def test_an_absent_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="does not exist"):
        identify(tmp_path / "nothing")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="is empty"):
        identify(tmp_path)


def test_a_folder_around_the_models_folder_points_inside(tmp_path: Path) -> None:
    checkpoints.starter_like(tmp_path / "inner")

    with pytest.raises(ModelNotFound, match="subfolder inner"):
        identify(tmp_path)


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"ONNX")

    with pytest.raises(ModelUnsupported, match="single file"):
        identify(path)


@pytest.mark.parametrize("shards", [1, 3])
def test_a_weight_file_stands_for_its_folder(tmp_path: Path, shards: int) -> None:
    folder = checkpoints.starter_like(tmp_path / "m", shards=shards)
    file = next(iter(sorted(folder.glob("*.safetensors"))))

    assert identify(file) == identify(folder)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", '"x"', "\ufffe"),
        pytest.param('{"model_type": "llava", "x": ' + "9" * 5000 + "}", id="a number of 5,000 digits"),
        pytest.param("[" * 100_000, id="nested without end"),
    ],
)
def test_a_config_that_is_not_one(tmp_path: Path, text: str) -> None:
    checkpoints.starter_like(tmp_path)
    (tmp_path / "config.json").write_text(text, encoding="utf-8")

    with pytest.raises(ModelDamaged, match=r"config\.json"):
        identify(tmp_path)


def test_a_config_whose_parts_have_the_wrong_types_is_survived_or_refused(tmp_path: Path) -> None:
    checkpoints.starter_like(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config["text_config"] = {"hidden_size": "big", "num_hidden_layers": -4, "head_dim": None}
    config["vision_config"] = {"image_size": [], "patch_size": {}, "num_hidden_layers": True}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")

    model = identify(tmp_path)

    assert (model.text.hidden, model.text.layers) == (192, 4)
    assert model.vision is not None
    assert (model.vision.layers, model.vision.patch_size) == (6, 8)


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("vision_config", {"mlp_ratio": float("nan"), "intermediate_size": None}),
        ("vision_config", {"mlp_ratio": float("inf"), "intermediate_size": None}),
        ("vision_config", {"image_size": 10**9, "patch_size": 1}),
        ("text_config", {"max_position_embeddings": 10**30}),
        (None, {"model_type": "llava_next", "image_grid_pinpoints": []}),
        (None, {"model_type": "llava_next", "image_grid_pinpoints": [1, 2]}),
        (None, {"model_type": "llava_next", "image_grid_pinpoints": [["a", "b"], [128, 128, 3], [-64, 64]]}),
        (None, {"model_type": "llava_next", "image_grid_pinpoints": "(1x1),(2x2)"}),
        (None, {"text_config": None}),
        (None, {"vision_config": {}}),
        (None, {"architectures": [None]}),
    ],
)
def test_odd_figures_of_a_config_give_no_odd_figures(
    tmp_path: Path, part: str | None, changes: dict[str, Any]
) -> None:
    checkpoints.starter_like(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (config if part is None else config[part]).update(changes)
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")

    model = identify(tmp_path)

    assert (model.text.hidden, model.text.layers) == (192, 4)
    assert 0 < model.text.max_context < 1 << 31
    if model.vision is not None:
        assert 1 <= model.vision.tokens_per_image < 1 << 31
        assert 0 < model.vision.intermediate < 1 << 20


BERT = {
    "embeddings.word_embeddings.weight": (320, 64),
    "embeddings.position_embeddings.weight": (64, 64),
    **{f"encoder.layer.{index}.attention.self.query.weight": (64, 64) for index in range(2)},
    "pooler.dense.weight": (64, 64),
}


@pytest.mark.parametrize(
    ("family", "architecture"),
    [
        ("bert", "BertModel"),
        ("bert", "BertForMaskedLM"),
        ("bert", "BertForSequenceClassification"),
        ("bert", None),
        ("roberta", "RobertaModel"),
        ("distilbert", "DistilBertForMaskedLM"),
        ("llama", "LlamaForSequenceClassification"),
        ("vit", "ViTForImageClassification"),
    ],
)
def test_a_whole_model_of_another_task_does_not_answer_and_is_not_called_damaged(
    tmp_path: Path, family: str, architecture: str | None
) -> None:
    config = {
        "model_type": family,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "architectures": [architecture] if architecture else None,
    }
    write_model(tmp_path, config, {f"{family}.{name}": BERT[name] for name in BERT}, weights=True)

    with pytest.raises(ModelUnsupported, match="does not answer questions"):
        identify(tmp_path)


def test_the_original_llava_layout_is_not_taken_for_a_text_model(tmp_path: Path) -> None:
    config = {
        "model_type": "llava",
        "architectures": ["LlavaLlamaForCausalLM"],
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "hidden_size": 4096,
    }
    checkpoints.llama(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")

    with pytest.raises(ModelUnsupported, match="vision tower openai/clip-vit-large-patch14-336"):
        identify(tmp_path)


def test_a_config_without_a_type_that_brings_its_own_code(tmp_path: Path) -> None:
    checkpoints.llama(tmp_path)
    config = {"architectures": ["CogVLMForCausalLM"], "auto_map": {"AutoConfig": "configuration_cogvlm.X"}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")

    with pytest.raises(ModelUnsupported, match="CogVLMForCausalLM runs only with program code"):
        identify(tmp_path)


def test_a_decoder_that_ends_early_is_damaged(tmp_path: Path) -> None:
    checkpoints.starter_like(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config["text_config"]["num_hidden_layers"] = 6
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")

    with pytest.raises(ModelDamaged, match=r"hold 4 decoder layers, and config\.json says 6"):
        identify(tmp_path)


def test_weights_without_a_decoder_are_damaged(tmp_path: Path) -> None:
    checkpoints.starter_like(tmp_path)
    write_file(tmp_path / "model.safetensors", {"a.weight": (2, 2)}, weights=True)

    with pytest.raises(ModelDamaged, match="hold 0 decoder layers"):
        identify(tmp_path)


def test_a_tensor_in_two_shards_counts_once(tmp_path: Path) -> None:
    whole = checkpoints.starter_like(tmp_path / "whole")
    folder = checkpoints.starter_like(tmp_path / "twice", shards=2)
    for shard in (1, 2):
        shutil.copy(whole / "model.safetensors", folder / f"model-0000{shard}-of-00002.safetensors")

    assert identify(folder).parameters == identify(whole).parameters


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = checkpoints.llava_15_7b(tmp_path / "m")
    (folder / "model-00002-of-00003.safetensors").unlink()

    with pytest.raises(ModelDamaged, match="1 of 3 weight files are missing: model-00002"):
        identify(folder)


def test_a_tensor_that_is_not_where_the_index_says(tmp_path: Path) -> None:
    folder = checkpoints.llava_15_7b(tmp_path / "m")
    shutil.copy(folder / "model-00001-of-00003.safetensors", folder / "model-00002-of-00003.safetensors")

    with pytest.raises(ModelDamaged, match="lacks"):
        identify(folder)


@pytest.mark.parametrize(
    "file",
    [
        *("../secret.safetensors", "/etc/passwd", "..\\x.safetensors", "C:x.safetensors", "..", "."),
        *("", 5, None, "a\0b", "\ud800.safetensors", "\x1b[2J.safetensors"),
        pytest.param("a" * 5000, id="longer than any file system takes"),
    ],
)
def test_an_index_never_reaches_outside_the_folder(tmp_path: Path, file: object) -> None:
    folder = checkpoints.llava_15_7b(tmp_path / "m")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": file}}), encoding="utf-8"
    )

    with pytest.raises(ModelDamaged, match="invalid file name"):
        identify(folder)


def test_identifying_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    folder = checkpoints.starter_like(tmp_path / "m")
    code = (
        "import sys; from pathlib import Path; from backends.models.identify import identify; "
        f"identify(Path({str(folder)!r})); "
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.strip() == "[]"
