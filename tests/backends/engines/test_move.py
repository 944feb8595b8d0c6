"""A loaded model takes other places: the engine's part, from the plan to the next answer."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag
from types import SimpleNamespace

import pytest
import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from backends.engines import arrangement as arrangement_module
from backends.engines import readiness, transformers_engine
from backends.engines.detail import limit_detail
from backends.engines.paths import ChunkedPath
from backends.engines.progress import weight_files
from backends.engines.transformers_engine import TransformersEngine
from backends.errors import (
    Cancelled,
    CannotMove,
    ContextExceeded,
    DiskFull,
    ModelDamaged,
    NotLoaded,
    OutOfRam,
)
from backends.messages import ImagePart, Message, Progress, Role, TextPart
from backends.placement.types import Plan
from tests.backends.engines.test_loading import DISK_MAP
from tests.support.plans import make_plan
from tests.support.second_device import second_device

IN_RAM = dict.fromkeys(DISK_MAP, "cpu")
HYBRID = {**dict.fromkeys(list(DISK_MAP)[:4], "cuda:7"), **dict.fromkeys(list(DISK_MAP)[4:], "cpu")}
GPUS = (7,)


@pytest.fixture
def loaded(models: Callable[[str], Path], tmp_path: Path) -> Iterator[tuple[TransformersEngine, Plan]]:
    """A model in RAM, in a process that could see the driver's GPU 7.

    A load leaves weights as windows into the checkpoint, at whatever addresses the file's header allows; a
    move leaves copies at multiples of 64. The CPU's matrix products of the same values then differ in their
    last bits. With copies from the start, what a move may not change is the same to the last bit.
    """
    engine = TransformersEngine()
    plan = make_plan(models("llava"), device_map=IN_RAM, visible_gpus=GPUS, offload_dir=str(tmp_path / "off"))
    engine.load(plan, lambda _: None, Flag())
    for parameter in model_of(engine).parameters():
        parameter.data = parameter.data.clone()
    yield engine, plan
    engine.close()


def model_of(engine: TransformersEngine) -> torch.nn.Module:
    assert engine._loaded is not None
    model: torch.nn.Module = engine._loaded.model
    return model


def weights(engine: TransformersEngine) -> dict[str, torch.Tensor]:
    """Copies of all weights, by their names."""
    return {name: each.detach().clone() for name, each in model_of(engine).named_parameters()}


def on(plan: Plan, device_map: dict[str, str], **changes: object) -> Plan:
    return replace(plan, device_map=tuple(device_map.items()), **changes)  # type: ignore[arg-type]


def move(engine: TransformersEngine, plan: Plan) -> dict[str, str]:
    return dict(engine.move(plan, lambda _: None, Flag()).device_map)


def asked(
    engine: TransformersEngine, picture: ImagePart, conversation: str = "tab"
) -> tuple[torch.Tensor, int]:
    """Logits of the first token and of two more, and how many tokens were reused."""
    path = engine._path
    assert isinstance(path, ChunkedPath)
    opened = path.open(conversation, [Message(Role.USER, (picture, TextPart("What is this?")))], 8)
    try:
        logits = [path.first(Flag()), path.step(50), path.step(60)]
        return torch.cat([each.to("cpu") for each in logits]), opened.reused
    finally:
        path.shut()


def test_from_ram_to_the_disk_and_back_without_the_checkpoint(
    loaded: tuple[TransformersEngine, Plan],
    picture: Callable[[str], ImagePart],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, plan = loaded
    expected, _ = asked(engine, picture("red"))
    held = weights(engine)
    monkeypatch.setattr(transformers_engine, "load_model", None)
    (file,) = weight_files(Path(plan.model_path))
    before = file.stat().st_atime_ns
    assert move(engine, on(plan, DISK_MAP))["model.language_model.layers.2"] == "disk"
    assert (tmp_path / "off").is_dir()
    from_disk, _ = asked(engine, picture("red"))
    torch.testing.assert_close(from_disk, expected, rtol=0, atol=5e-6)  # windows again: see `loaded`
    assert torch.equal(from_disk.argmax(-1), expected.argmax(-1))
    assert set(move(engine, plan).values()) == {"cpu"}
    assert not (tmp_path / "off").exists()
    found = weights(engine)
    assert found.keys() == held.keys()
    assert all(torch.equal(found[name], held[name]) for name in held)
    assert torch.equal(asked(engine, picture("red"))[0], expected)
    assert file.stat().st_atime_ns == before


def test_a_file_that_goes_away_under_a_loaded_model_is_named_and_may_come_back(
    models: Callable[[str], Path], picture: Callable[[str], ImagePart], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(models("llava"), tmp_path / "a model"))
    engine = TransformersEngine()
    engine.load(
        make_plan(folder, device_map=DISK_MAP, offload_dir=str(tmp_path / "off")), lambda _: None, Flag()
    )
    try:
        expected, _ = asked(engine, picture("red"))
        (file,) = weight_files(folder)
        away = file.rename(tmp_path / "away")
        with pytest.raises(ModelDamaged) as caught:
            asked(engine, picture("red"), "another tab")
        assert caught.value.values["path"] == str(folder)
        assert caught.value.values["file"] == file.name
        away.rename(file)
        assert torch.equal(asked(engine, picture("red"), "a third")[0], expected)
    finally:
        engine.close()


def test_what_a_conversation_has_cached_is_kept_where_nothing_runs_elsewhere(
    loaded: tuple[TransformersEngine, Plan], picture: Callable[[str], ImagePart]
) -> None:
    engine, plan = loaded
    asked(engine, picture("red"))
    move(engine, on(plan, IN_RAM))
    assert asked(engine, picture("red"))[1] > 0
    move(engine, on(plan, IN_RAM, context_tokens=300))
    assert asked(engine, picture("red"))[1] > 0


def test_a_smaller_context_drops_what_does_not_fit_and_refuses_what_never_will(
    loaded: tuple[TransformersEngine, Plan], picture: Callable[[str], ImagePart]
) -> None:
    engine, plan = loaded
    asked(engine, picture("red"))
    move(engine, on(plan, IN_RAM, context_tokens=8))
    with pytest.raises(ContextExceeded):
        asked(engine, picture("red"))
    move(engine, plan)
    assert asked(engine, picture("red"))[1] == 0


def test_a_picture_s_detail_goes_with_the_plan_and_so_does_what_was_cached_of_it(
    loaded: tuple[TransformersEngine, Plan],
    picture: Callable[[str], ImagePart],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, plan = loaded
    limits: list[int] = []
    monkeypatch.setattr(transformers_engine, "limit_detail", lambda _, tokens: limits.append(tokens))
    asked(engine, picture("red"))
    move(engine, replace(plan, image_tokens=plan.image_tokens + 8))
    assert limits == [plan.image_tokens + 8]
    assert asked(engine, picture("red"))[1] == 0


def test_a_later_limit_takes_the_place_of_an_earlier_one() -> None:
    once, often = Qwen2VLImageProcessorPil(), Qwen2VLImageProcessorPil()
    limit_detail(SimpleNamespace(image_processor=once), 900)
    for tokens in (320, 66, 900):
        limit_detail(SimpleNamespace(image_processor=often), tokens)
    assert dict(often.size) == dict(once.size)


def test_a_report_tells_a_move_from_a_load(loaded: tuple[TransformersEngine, Plan]) -> None:
    engine, plan = loaded
    report = engine.move(on(plan, IN_RAM, context_tokens=100), lambda _: None, Flag())
    assert report.moved
    assert report.context_tokens == 100
    assert report.seconds < 60


def _no_files(engine: TransformersEngine, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Plan:
    return replace(plan, precision="bf16")


def _no_disk(engine: TransformersEngine, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Plan:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(arrangement_module, "save_file", full)
    return on(plan, DISK_MAP)


def _no_ram(engine: TransformersEngine, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Plan:
    move(engine, on(plan, DISK_MAP))
    monkeypatch.setattr(transformers_engine, "room", lambda _: 0)
    return plan


@pytest.mark.parametrize(
    ("prepare", "error"), [(_no_files, CannotMove), (_no_disk, DiskFull), (_no_ram, OutOfRam)]
)
def test_a_move_that_fails_leaves_the_model_answering(
    prepare: Callable[[TransformersEngine, Plan, pytest.MonkeyPatch], Plan],
    error: type[Exception],
    *,
    loaded: tuple[TransformersEngine, Plan],
    picture: Callable[[str], ImagePart],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, plan = loaded
    asked_for = prepare(engine, plan, monkeypatch)
    expected, _ = asked(engine, picture("red"))
    with pytest.raises(error):
        move(engine, asked_for)
    assert engine.loaded
    assert torch.equal(asked(engine, picture("red"))[0], expected)
    assert (tmp_path / "off").exists() == (prepare is _no_ram)


def test_a_move_that_is_stopped_half_way_leaves_the_same_weights_and_no_cache(
    loaded: tuple[TransformersEngine, Plan], picture: Callable[[str], ImagePart], tmp_path: Path
) -> None:
    """What went to the disk and came back lies elsewhere in memory, which a cache must not meet."""
    engine, plan = loaded
    expected, _ = asked(engine, picture("red"))
    held, cancel = weights(engine), Flag()

    def stop(progress: Progress) -> None:
        if progress.done:
            cancel.set()

    with pytest.raises(Cancelled):
        engine.move(on(plan, DISK_MAP), stop, cancel)
    found = weights(engine)
    assert all(torch.equal(found[name], held[name]) for name in held)
    again, reused = asked(engine, picture("red"))
    assert reused == 0
    assert torch.equal(again, expected)
    assert not (tmp_path / "off").exists()


def test_half_a_model_is_closed(
    loaded: tuple[TransformersEngine, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way back fails too: nothing answers wrongly, and the memory is free."""
    engine, plan = loaded
    move(engine, on(plan, DISK_MAP))

    def gone(*_: object) -> None:
        raise OSError(5, "the disk was pulled out")

    monkeypatch.setattr(arrangement_module, "read_stored", gone)
    monkeypatch.setattr(arrangement_module.Arrangement, "_settle", gone)
    with pytest.raises(Exception, match=r"."):
        move(engine, plan)
    assert not engine.loaded
    with pytest.raises(NotLoaded):
        move(engine, plan)


def test_nothing_is_moved_before_something_is_loaded() -> None:
    with pytest.raises(NotLoaded):
        TransformersEngine().move(make_plan("x"), lambda _: None, Flag())


@pytest.mark.parametrize("mode", ["compute", "stream"])
def test_a_hybrid_answers_and_reuses_like_the_unsplit_model(
    mode: str,
    loaded: tuple[TransformersEngine, Plan],
    picture: Callable[[str], ImagePart],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, plan = loaded
    expected, _ = asked(engine, picture("red"))
    again, reused = asked(engine, picture("red"))
    monkeypatch.setattr(readiness, "gpu_count", lambda: 1)
    monkeypatch.setattr(transformers_engine, "room", lambda _: 1 << 40)
    monkeypatch.setattr(transformers_engine, "Meter", lambda *_: None)
    told: list[Progress] = []
    with second_device(), torch.no_grad():
        hybrid = on(plan, HYBRID, cpu_layers_mode=mode)
        report = engine.move(hybrid, told.append, Flag())
        assert dict(report.device_map)["model.vision_tower"] == "cuda:7"
        assert dict(report.device_map)["model.language_model.layers.1"] == "cpu"
        first, nothing = asked(engine, picture("red"))
        second, kept = asked(engine, picture("red"))
        move(engine, plan)
        back, _ = asked(engine, picture("red"))
    assert (nothing, kept) == (0, reused)
    assert torch.equal(first, expected)
    assert torch.equal(second, again)
    assert torch.equal(back, expected)
    assert told[-1].done == told[-1].total > 0
