"""Converted files: how many are kept, which may go, and what a load shows while they are made."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from backends.conversion.cache import targets
from backends.conversion.types import Conversion, Request, WeightType
from backends.errors import Cancelled, DiskFull, ModelUnsupported, WorkerCrashed
from backends.messages import Progress
from backends.placement.types import Plan
from backends.service import Service
from backends.service.converted import ConvertedFiles
from backends.settings import Settings
from tests.support.plans import make_plan

OTHER = "other-" + "0" * 20


def converts(path: Path | str, cache: Path, *, ready: bool = False) -> Plan:
    conversion = Conversion(str(cache), WeightType.Q8_0, None, nbytes=500, source_bytes=1000, ready=ready)
    return replace(make_plan(path), engine="llamacpp", precision="q8_0", conversion=conversion)


def keep(folder: Path, name: str, size: int, *, age: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(bytes(size))
    os.utime(path, (1_000_000 - age, 1_000_000 - age))
    return path


@pytest.fixture
def starter(settings: Settings) -> Plan:
    """The starter, as llama.cpp is to run it."""
    return converts(settings.starter, settings.converted)


@pytest.fixture
def of_starter(settings: Settings) -> Path:
    """Its converted file."""
    name = targets(Request(settings.starter, settings.converted)).text.name
    return keep(settings.converted, name, 300, age=900)


def test_nothing_is_kept_at_first(service: Service) -> None:
    usage = service.converted()
    assert (usage.nbytes, usage.models, usage.removable_bytes) == (0, 0, 0)
    assert service.clear_converted() == 0


def test_what_is_kept_is_counted_by_models(service: Service, settings: Settings, of_starter: Path) -> None:
    keep(settings.converted, f"{OTHER}-q8_0.gguf", 100)
    keep(settings.converted, f"{OTHER}-mmproj-rotated-f16.gguf", 50)
    usage = service.converted()
    assert (usage.nbytes, usage.models, usage.used_bytes) == (450, 2, 0)
    assert usage.limit_bytes == 40 << 30


def test_clearing_leaves_what_the_loaded_model_has_open(
    service: Service, settings: Settings, starter: Plan, of_starter: Path
) -> None:
    gone = keep(settings.converted, f"{OTHER}-q8_0.gguf", 100)
    list(service.load(starter))
    assert service.converted().used_bytes == 300
    assert service.clear_converted() == 100
    assert (of_starter.exists(), gone.exists()) == (True, False)
    service.unload()
    assert service.clear_converted() == 300
    assert not of_starter.exists()


def test_a_load_removes_what_was_used_longest_ago_beyond_the_limit(
    settings: Settings, starter: Plan, of_starter: Path
) -> None:
    old = keep(settings.converted, f"{OTHER}-q8_0.gguf", 100, age=500)
    new = keep(settings.converted, f"newest-{'1' * 20}-q8_0.gguf", 100, age=1)
    files = ConvertedFiles(replace(settings, converted_limit_bytes=150), lambda: (1, starter))
    files.opens(starter)
    files.loaded(starter)
    assert (of_starter.exists(), old.exists(), new.exists()) == (True, False, True)


def test_the_model_that_is_loaded_stays_however_small_the_limit(
    settings: Settings, starter: Plan, of_starter: Path
) -> None:
    files = ConvertedFiles(replace(settings, converted_limit_bytes=0), lambda: (1, starter))
    files.loaded(starter)
    assert of_starter.exists()


def test_another_precision_of_the_loaded_model_may_go(
    settings: Settings, starter: Plan, of_starter: Path
) -> None:
    source = of_starter.name.removesuffix("-q8_0.gguf")
    other = keep(settings.converted, f"{source}-f16.gguf", 70)
    pictures = keep(settings.converted, f"{source}-mmproj-rotated-f16.gguf", 50)
    files = ConvertedFiles(settings, lambda: (1, starter))
    files.opens(starter)
    assert files.usage().used_bytes == 350
    assert files.clear() == 70
    assert (of_starter.exists(), other.exists(), pictures.exists()) == (True, False, True)


def test_a_gguf_file_keeps_its_repaired_picture_part(settings: Settings) -> None:
    repaired = keep(settings.converted, f"mmproj-{'2' * 20}-repaired-rotated.gguf", 70)
    plan = replace(make_plan("model.gguf"), format="gguf", engine="llamacpp")
    assert ConvertedFiles(settings, lambda: (1, plan)).clear() == 0
    assert repaired.exists()
    assert ConvertedFiles(settings, lambda: None).clear() == 70


def test_a_folder_that_is_a_file_is_no_cache(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    settings.converted.write_text("not a folder", encoding="utf-8")
    files = ConvertedFiles(settings, lambda: None)
    assert files.usage().nbytes == 0
    assert files.clear() == 0


def test_a_conversion_is_a_stage_of_the_load_with_its_bytes(service: Service, settings: Settings) -> None:
    steps = list(service.load(converts("model", settings.converted)))
    assert Progress("converting", 1000, 1000) in steps or steps[-1].stage == "read"
    assert service.state().status == "ready"


def test_the_time_left_is_told_while_it_converts(service: Service, settings: Settings) -> None:
    left = [
        service.state().left_s
        for progress in service.load(converts("slow-conversion", settings.converted))
        if progress.stage == "converting"
    ]
    told = [seconds for seconds in left if seconds is not None]
    assert told
    assert min(told) < 1.5
    assert service.state().left_s is None


def test_what_is_converted_already_is_loaded_at_once(service: Service, settings: Settings) -> None:
    steps = list(service.load(converts("slow-conversion", settings.converted, ready=True)))
    assert {progress.stage for progress in steps} <= {"start", "read"}


def test_a_conversion_can_be_called_off(service: Service, settings: Settings) -> None:
    steps = service.load(converts("stuck-conversion", settings.converted))
    while (progress := next(steps)).stage != "converting" or progress.done < 500:
        pass
    service.cancel_load()
    with pytest.raises(Cancelled):
        list(steps)
    state = service.state()
    assert (state.status, state.error, state.failed) == ("empty", None, None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("full-disk-conversion", DiskFull), ("unfit-conversion", ModelUnsupported)],
)
def test_a_conversion_that_fails_says_of_which_plan(
    service: Service, settings: Settings, name: str, kind: type[Exception]
) -> None:
    plan = converts(name, settings.converted)
    with pytest.raises(kind):
        list(service.load(plan))
    assert service.state().failed == plan


def test_a_process_that_ends_while_converting_says_so(service: Service, settings: Settings) -> None:
    with pytest.raises(WorkerCrashed) as caught:
        list(service.load(converts("crash-conversion", settings.converted)))
    assert str(caught.value.what_text) == "The model's process ended while converting the model."


def test_leaving_room_is_decided_by_the_next_load(service: Service) -> None:
    plan = make_plan("model")
    list(service.load(plan))
    worker = service.state().worker_pid
    assert not service.loads_differently
    service.set_leave_room(True)
    assert service.loads_differently
    why = service.why_reload(plan)
    assert why is not None
    assert why.code == "move.leave_room"
    list(service.load(plan))
    assert not service.loads_differently
    assert service.state().worker_pid != worker


def test_the_process_that_waits_is_started_anew_with_room(settings: Settings) -> None:
    with Service(settings, preload=True, engine="fake") as service:
        before = service._host.pids
        service.set_leave_room(True)
        assert service._host.pids != before
        assert len(service._host.pids) == 1
