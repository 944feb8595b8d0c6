"""Plans carried out on real tiny checkpoints: progress, placement, precision, cancelling, damage."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from threading import Event as Flag

import pytest
import torch
from safetensors.torch import load_file, save_file

from backends.engines.base import ChatRequest
from backends.engines.options import load_options
from backends.engines.progress import weight_files
from backends.engines.transformers_engine import TransformersEngine
from backends.errors import Cancelled, ModelDamaged, ModelNotFound, ModelUnsupported, SnugError
from backends.messages import Done, ImagePart, Message, Progress, Role, SamplingParams, TextPart
from backends.placement.types import Plan
from backends.reports import LoadReport
from tests.support.plans import make_plan
from tests.support.tiny_models import shard

Models = Callable[[str], Path]
Draw = Callable[[str], ImagePart]

DISK_MAP = {
    "model.vision_tower": "cpu",
    "model.multi_modal_projector": "cpu",
    "model.language_model.embed_tokens": "cpu",
    "model.language_model.layers.0": "cpu",
    "model.language_model.layers.1": "disk",
    "model.language_model.layers.2": "disk",
    "model.language_model.norm": "cpu",
    "model.language_model.rotary_emb": "cpu",
    "lm_head": "cpu",
}


def load(plan: Plan, cancel: Flag | None = None) -> tuple[TransformersEngine, LoadReport, list[Progress]]:
    engine, seen = TransformersEngine(), []
    report = engine.load(plan, seen.append, cancel or Flag())
    return engine, report, seen


def answer(engine: TransformersEngine, *parts: ImagePart | TextPart) -> tuple[int, ...]:
    request = ChatRequest("tab", [Message(Role.USER, parts)], SamplingParams(temperature=0.0, max_tokens=12))
    done = list(engine.chat(request, Flag()))[-1]
    assert isinstance(done, Done)
    return done.token_ids


def copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


@pytest.mark.parametrize("parts", [1, 3], ids=["one file", "three files"])
def test_progress_counts_every_byte_once(parts: int, models: Models, tmp_path: Path) -> None:
    folder = models("llava") if parts == 1 else shard(models("llava"), tmp_path / "with space 模型", parts)
    tensors: dict[str, torch.Tensor] = {}
    for file in folder.glob("*.safetensors"):
        tensors |= load_file(file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    engine, _, seen = load(make_plan(folder))
    read = [event for event in seen if event.stage == "read"]
    assert {event.total for event in read} == {total}
    assert (read[0].done, read[-1].done) == (0, total)
    assert all(before.done <= after.done for before, after in pairwise(read))
    assert len({event.done for event in read}) > 10
    engine.close()


@pytest.mark.parametrize("after", [1, 5, 20])
def test_a_load_stops_where_it_is_cancelled(after: int, models: Models) -> None:
    cancel, seen = Flag(), []

    def watch(event: Progress) -> None:
        seen.append(event)
        if len(seen) == after:
            cancel.set()

    engine = TransformersEngine()
    with pytest.raises(Cancelled):
        engine.load(make_plan(models("llava")), watch, cancel)
    assert len(seen) <= after + 1
    engine.load(make_plan(models("llava")), lambda _: None, Flag())
    engine.close()


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_the_planned_dtype_is_what_is_loaded(
    precision: str, dtype: torch.dtype, models: Models, picture: Draw
) -> None:
    engine, report, _ = load(make_plan(models("llava"), precision=precision))
    model = engine._path._runner._model  # type: ignore[union-attr]
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert (report.precision, report.dtype, report.quantized) == (precision, precision, 0)
    assert len(answer(engine, picture("red"), TextPart("What?"))) > 0
    engine.close()


def test_the_report_is_read_off_the_model(models: Models) -> None:
    engine, report, _ = load(make_plan(models("llava"), context_tokens=300))
    assert report.engine == "transformers"
    assert report.device_map == (("model", "cpu"), ("lm_head", "cpu"))
    assert report.supports_images
    assert report.context_tokens == 300
    assert dict(report.peaks)["cpu"] > 100_000_000
    engine.close()


def test_the_models_own_limit_bounds_the_context(models: Models) -> None:
    engine, report, _ = load(make_plan(models("llama"), context_tokens=1_000_000))
    assert report.context_tokens == 2048
    assert not report.supports_images
    engine.close()


def test_layers_on_the_disk_answer_like_layers_in_memory(
    models: Models, picture: Draw, tmp_path: Path
) -> None:
    question = (picture("red"), TextPart("What?"))
    plain, _, _ = load(make_plan(models("llava")))
    expected = answer(plain, *question)
    plain.close()
    offload = tmp_path / "off load"
    engine, report, seen = load(make_plan(models("llava"), device_map=DISK_MAP, offload_dir=str(offload)))
    placed = dict(report.device_map)
    assert {name: placed[name] for name in DISK_MAP if name in placed} == {
        name: device for name, device in DISK_MAP.items() if name in placed
    }
    assert placed["model.language_model.layers.2"] == "disk"
    assert report.offload_dir == str(offload)
    assert offload.is_dir()
    assert seen[-1].stage == "place"
    assert answer(engine, *question) == expected
    assert answer(engine, *question) == expected
    engine.close()
    assert not offload.exists()


def test_a_failed_load_leaves_no_offload_folder(models: Models, tmp_path: Path) -> None:
    cancel = Flag()

    def stop(event: Progress) -> None:
        if event.stage == "read" and event.done:
            cancel.set()

    offload = tmp_path / "offload"
    plan = make_plan(models("llava"), device_map=DISK_MAP, offload_dir=str(offload))
    with pytest.raises(Cancelled):
        TransformersEngine().load(plan, stop, cancel)
    assert not offload.exists()


@pytest.mark.parametrize("precision", ["int8", "nf4"])
@pytest.mark.parametrize("offload", [True, False])
def test_the_quantization_config_is_the_plans(precision: str, offload: bool) -> None:
    plan = make_plan("x", precision=precision, int8_fp32_cpu_offload=offload)
    config = load_options(plan)["quantization_config"]
    assert config.load_in_8bit == (precision == "int8")
    assert config.load_in_4bit == (precision == "nf4")
    assert config.llm_int8_enable_fp32_cpu_offload == offload
    (left_alone,) = config.llm_int8_skip_modules
    quantized = ("model.language_model.layers.0", "model.language_model.layers.2.mlp.up_proj")
    others = (
        "lm_head",
        "model.visual.layers.0",
        "model.language_model.layers.11",
        "model.language_model.norm",
    )
    assert not any(re.match(left_alone, name) for name in quantized)
    assert all(re.fullmatch(left_alone, name) for name in others)
    if precision == "nf4":
        assert config.bnb_4bit_quant_type == "nf4"
        assert config.bnb_4bit_use_double_quant


@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_quantized_layers_run_on_the_cpu(precision: str, models: Models, picture: Draw) -> None:
    engine, report, _ = load(make_plan(models("llava"), precision=precision))
    model = engine._path._runner._model  # type: ignore[union-attr]
    linears = {
        name
        for name, module in model.named_modules()
        if type(module).__name__ in ("Linear8bitLt", "Linear4bit")
    }
    assert linears
    assert all(name.startswith("model.language_model.layers.") for name in linears)
    assert report.quantized == len(linears) == 3 * 7
    assert report.precision == precision
    assert len(answer(engine, picture("red"), TextPart("What?"))) > 0
    engine.close()


def _truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def _garble(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"<html>404 Not Found</html>" * 100)


def _empty(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _lose_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("language_model.model.layers.1.mlp.up_proj.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _wrong_sizes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["text_config"]["intermediate_size"] = 256
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{", encoding="utf-8")


def _unknown_architecture(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "from_the_future"}', encoding="utf-8")


def _no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (_truncate, ModelDamaged),
        (_garble, ModelDamaged),
        (_empty, ModelDamaged),
        (_no_weights, ModelDamaged),
        (_lose_a_tensor, ModelDamaged),
        (_wrong_sizes, ModelDamaged),
        (_no_config, ModelNotFound),
        (_broken_config, ModelDamaged),
        (_unknown_architecture, ModelUnsupported),
        (_no_tokenizer, SnugError),
    ],
)
def test_bad_folders_give_one_clear_error(
    spoil: Callable[[Path], None], error: type[SnugError], models: Models, tmp_path: Path
) -> None:
    folder = copy(models("llava"), tmp_path / "model")
    spoil(folder)
    with pytest.raises(error) as caught:
        TransformersEngine().load(make_plan(folder), lambda _: None, Flag())
    assert "{" not in str(caught.value)
    assert caught.value.exit_code in (2, 3)


def test_an_older_processor_without_sizes_is_completed(models: Models, picture: Draw, tmp_path: Path) -> None:
    folder = copy(models("llava"), tmp_path / "older")
    path = folder / "processor_config.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for key in ("patch_size", "vision_feature_select_strategy", "num_additional_image_tokens"):
        document.pop(key)
    path.write_text(json.dumps(document), encoding="utf-8")
    question = (picture("red"), TextPart("What?"))
    older, _, _ = load(make_plan(folder))
    newer, _, _ = load(make_plan(models("llava")))
    assert answer(older, *question) == answer(newer, *question)
    older.close()
    newer.close()


def test_a_missing_shard_is_named(models: Models, tmp_path: Path) -> None:
    folder = shard(models("llava"), tmp_path / "sharded")
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelDamaged, match="model-00002-of-00003"):
        TransformersEngine().load(make_plan(folder), lambda _: None, Flag())


def test_a_missing_tokenizer_is_named_before_weights_are_read(models: Models, tmp_path: Path) -> None:
    folder = copy(models("llava"), tmp_path / "wordless")
    for name in ("tokenizer.json", "tokenizer.model", "vocab.json"):
        (folder / name).unlink(missing_ok=True)
    told: list[Progress] = []
    with pytest.raises(ModelDamaged, match=r"no tokenizer.*again"):
        TransformersEngine().load(make_plan(folder), told.append, Flag())
    assert told == []


def test_a_single_file_wins_over_an_index_that_was_left_behind(models: Models, tmp_path: Path) -> None:
    folder = copy(models("llava"), tmp_path / "both")
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00009.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert weight_files(folder) == (folder / "model.safetensors",)


def test_loading_twice_replaces_the_model(models: Models) -> None:
    engine, first, _ = load(make_plan(models("llava")))
    second = engine.load(make_plan(models("llama")), lambda _: None, Flag())
    assert first.supports_images
    assert not second.supports_images
    engine.close()
    engine.close()
