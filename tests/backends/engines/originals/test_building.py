"""Recipes carried out: files of torch.save answer as .safetensors do, in every precision and placement."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Event as Flag

import pytest
import torch
from safetensors.torch import load_file

from backends.engines.loading import load_model
from backends.engines.originals.building import build
from backends.engines.transformers_engine import TransformersEngine
from backends.errors import Cancelled, ModelDamaged
from backends.messages import ImagePart, Progress, TextPart
from backends.models.identify import identify
from backends.models.originals.opening import open_recipe
from backends.models.originals.types import Delta, Part, Recipe, Source
from tests.backends.engines.test_loading import DISK_MAP, answer, load
from tests.support.plans import make_plan

Models = Callable[[str], Path]
Draw = Callable[[str], ImagePart]
QUESTION = TextPart("What is it?")


@pytest.fixture(scope="module")
def pickled(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny LLaVA with its weights in two .bin files and an index."""
    folder = tmp_path_factory.mktemp("bin") / "my 模型"
    shutil.copytree(models("llava"), folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    file.unlink()
    names = sorted(tensors)
    parts = {"pytorch_model-1.bin": names[::2], "pytorch_model-2.bin": names[1::2]}
    for part, inside in parts.items():
        torch.save({name: tensors[name] for name in inside}, folder / part)
    index = {name: part for part, inside in parts.items() for name in inside}
    (folder / "pytorch_model.bin.index.json").write_text(
        '{"weight_map": {' + ", ".join(f'"{name}": "{part}"' for name, part in index.items()) + "}}",
        encoding="utf-8",
    )
    return folder


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "int8", "nf4"])
def test_it_answers_as_safetensors_do(precision: str, models: Models, pickled: Path, picture: Draw) -> None:
    said = []
    for folder in (models("llava"), pickled):
        engine, report, _ = load(make_plan(folder, precision=precision))
        said.append((answer(engine, picture("red"), QUESTION), report.dtype, report.quantized))
        engine.close()
    assert said[0] == said[1]
    assert said[0][0]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_layers_rest_on_the_disk_in_the_files_themselves(
    precision: str, models: Models, pickled: Path, picture: Draw, tmp_path: Path
) -> None:
    said = []
    for folder in (models("llava"), pickled):
        plan = make_plan(folder, precision=precision, device_map=DISK_MAP, offload_dir=str(tmp_path / "off"))
        engine, report, _ = load(plan)
        said.append((answer(engine, picture("red"), QUESTION), report.device_map))
        assert not list(tmp_path.rglob("*.safetensors"))
        engine.close()
    assert said[0] == said[1]
    assert ("model.language_model.layers.1", "disk") in said[1][1]


def test_a_loaded_model_is_moved_to_its_own_files_and_back(
    pickled: Path, picture: Draw, tmp_path: Path
) -> None:
    engine, _, _ = load(make_plan(pickled))
    before = answer(engine, picture("red"), QUESTION)
    off = str(tmp_path / "off")
    for device_map in (DISK_MAP, None):
        plan = make_plan(pickled, device_map=device_map, offload_dir=off if device_map else None)
        assert engine.move(plan, lambda _: None, Flag()).moved
        assert answer(engine, picture("red"), QUESTION) == before
        assert not list(tmp_path.rglob("*.safetensors"))
    engine.close()


def test_progress_counts_every_byte_once(pickled: Path) -> None:
    engine, _, seen = load(make_plan(pickled))
    total = identify(pickled).weights_bytes
    read = [event for event in seen if event.stage == "read"]
    assert {event.total for event in read} == {total}
    assert (read[0].done, read[-1].done) == (0, total)
    assert all(before.done <= after.done for before, after in pairwise(read))
    engine.close()


@pytest.mark.parametrize("after", [1, 5, 20])
def test_a_load_stops_where_it_is_cancelled(after: int, pickled: Path) -> None:
    cancel, seen = Flag(), []

    def watch(event: Progress) -> None:
        seen.append(event)
        if len(seen) == after:
            cancel.set()

    engine = TransformersEngine()
    with pytest.raises(Cancelled):
        engine.load(make_plan(pickled), watch, cancel)
    assert len(seen) <= after + 1


def test_what_is_missing_is_named_and_nothing_is_loaded(
    pickled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = open_recipe(pickled)
    assert recipe is not None
    gone = "model.language_model.layers.1.mlp.up_proj.weight"
    sources = {name: source for name, source in recipe.sources.items() if name != gone}
    short = _with(recipe, sources)
    monkeypatch.setattr("backends.engines.loading.open_recipe", lambda *_: short)
    with pytest.raises(ModelDamaged) as caught:
        load_model(make_plan(pickled), lambda _: None, Flag())
    assert "1 tensors are missing, the first is" in str(caught.value)


@pytest.fixture
def adapted(pickled: Path, tmp_path: Path) -> Recipe:
    """The tiny LLaVA's recipe with a LoRA over one matrix of every layer."""
    recipe = open_recipe(pickled)
    assert recipe is not None
    torch.manual_seed(5)
    sources, added = dict(recipe.sources), {}
    changed = [name for name in sources if name.endswith("language_model.layers.1.mlp.up_proj.weight")]
    changed += [name for name in sources if name.endswith("language_model.layers.0.mlp.up_proj.weight")]
    file = tmp_path / "adapter.bin"
    shapes = {name: part.shape for name, part in _values(recipe).items()}
    for name in changed:
        outputs, inputs = shapes[name]
        added |= {f"{name}.A": torch.randn(2, inputs), f"{name}.B": torch.randn(outputs, 2)}
        delta = Delta(Part(file, f"{name}.A"), Part(file, f"{name}.B"), 0.25)
        sources[name] = Source(sources[name].part, (delta,))
    torch.save(added, file)
    return _with(recipe, sources)


@pytest.mark.parametrize("device_map", [None, DISK_MAP], ids=["in RAM", "layers on the disk"])
def test_a_lora_is_in_the_weights(
    device_map: dict[str, str] | None, adapted: Recipe, pickled: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "off"
    folder.mkdir()
    plan = make_plan(pickled, device_map=device_map)
    model, _, stored = build(plan, adapted, lambda _: None, Flag(), folder)
    plain, merged = _values(open_recipe(pickled)), {}
    for name, source in adapted.sources.items():
        for delta in source.deltas:
            pair = torch.load(delta.up.file, weights_only=True)
            merged[name] = plain[name].float() + 0.25 * pair[delta.up.key] @ pair[delta.down.key]
    assert len(merged) == 2
    for name, expected in merged.items():
        found = model.get_parameter(name)
        if found.device.type == "meta":
            assert Path(stored[name].file).parent == folder
            found = load_file(stored[name].file)[name]
        assert torch.allclose(found, expected, atol=1e-5)
    on_disk = {name for name in merged if model.get_parameter(name).device.type == "meta"}
    assert len(on_disk) == (1 if device_map else 0)
    assert len(list(folder.iterdir())) == len(on_disk)


def _values(recipe: Recipe | None) -> dict[str, torch.Tensor]:
    assert recipe is not None
    files = {source.part.file for source in recipe.sources.values()}
    tensors = {file: torch.load(file, weights_only=True) for file in files}
    return {name: tensors[source.part.file][source.part.key] for name, source in recipe.sources.items()}


def _with(recipe: Recipe, sources: dict[str, Source]) -> Recipe:
    return replace(recipe, sources=sources)
