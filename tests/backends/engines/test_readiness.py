"""The machine may have changed since the plan was made: refused with figures before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag

import psutil
import pytest

from backends.engines import readiness
from backends.engines.readiness import check_gpus, check_memory
from backends.engines.transformers_engine import TransformersEngine
from backends.errors import DeviceMapInvalid, GpuGone, OutOfGpuMemory, OutOfRam
from backends.messages import Progress
from backends.placement.types import DeviceShare, Plan
from tests.support.plans import make_plan

GB = 1_000_000_000
ON_GPUS = {"model": "cuda:3", "lm_head": "cuda:1"}


@pytest.mark.parametrize(
    ("present", "gone"),
    [(2, None), (1, "GPU 1"), (0, "GPU 1")],
    ids=["both are there", "the second vanished", "the driver is gone"],
)
def test_gpus_that_vanish_between_plan_and_load(present: int, gone: str | None) -> None:
    plan = make_plan("x", device_map=ON_GPUS, visible_gpus=(3, 1))
    if gone is None:
        check_gpus(plan, plan.visible_gpus, lambda: present)
        return
    with pytest.raises(GpuGone, match=f"{gone} is not there any more.*sees {present} GPUs"):
        check_gpus(plan, plan.visible_gpus, lambda: present)


def test_a_gpu_that_this_process_may_not_see_is_no_missing_one() -> None:
    plan = make_plan("x", device_map=ON_GPUS, visible_gpus=(3,))
    with pytest.raises(DeviceMapInvalid, match="cuda:1"):
        check_gpus(plan, plan.visible_gpus, lambda: 1)


def test_a_plan_without_gpus_asks_no_driver() -> None:
    def never() -> int:
        raise AssertionError

    check_gpus(make_plan("x"), (), never)


def planned(device: str, weights: int, *, overhead: int = 0, load_peak: int = 0) -> Plan:
    share = DeviceShare(device, device, 16 * GB, weights, GB, 0, 0, overhead)
    plan = make_plan("x", device_map={"model": device}, visible_gpus=(2,))
    return replace(plan, devices=(share,), load_peak_ram_bytes=load_peak)


@pytest.mark.parametrize(
    ("plan", "free", "error"),
    [
        (planned("cpu", 5 * GB), 6 * GB, None),
        (planned("cpu", 5 * GB), 3 * GB, OutOfRam),
        (planned("cpu", 5 * GB, overhead=4 * GB), 6 * GB, None),
        (planned("cpu", 5 * GB, load_peak=8 * GB), 7 * GB, OutOfRam),
        (planned("cuda:2", 5 * GB), 6 * GB, None),
        (planned("cuda:2", 5 * GB), 3 * GB, OutOfGpuMemory),
        (planned("cuda:2", 5 * GB, load_peak=8 * GB), 6 * GB, None),
        (planned("disk", 5 * GB), 0, None),
    ],
    ids=[
        "just enough RAM",
        "3 GB less RAM than planned",
        "what this process holds already is not asked for again",
        "loading needs more than answering",
        "just enough on the GPU",
        "3 GB less on the GPU than planned",
        "the load's RAM is no matter of the GPU",
        "the disk has its own check",
    ],
)
def test_free_memory_that_changed_since_the_plan(
    plan: Plan, free: int, error: type[Exception] | None
) -> None:
    asked: list[str] = []

    def tell(device: str) -> int:
        asked.append(device)
        return free

    if error is None:
        check_memory(plan, tell)
    else:
        with pytest.raises(error, match="loading the model"):
            check_memory(plan, tell)
    assert set(asked) <= {"cpu", "cuda:0"}  # torch's number of the driver's GPU 2


def test_the_engine_looks_before_it_reads(
    models: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Progress] = []
    short = replace(make_plan(models("llava")), devices=planned("cpu", psutil.virtual_memory().total).devices)
    with pytest.raises(OutOfRam):
        TransformersEngine().load(short, told.append, Flag())
    monkeypatch.setattr(readiness, "gpu_count", lambda: 0)
    gone = make_plan(models("llava"), device_map={"": "cuda:0"}, visible_gpus=(0,))
    with pytest.raises(GpuGone):
        TransformersEngine().load(gone, told.append, Flag())
    assert told == []
