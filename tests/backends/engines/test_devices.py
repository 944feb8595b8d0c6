"""Plans in torch's terms: renumbered GPUs, dtypes, threads."""

from __future__ import annotations

import os
import sys

import pytest
import torch

from backends.engines.devices import (
    compute_dtype,
    driver_device,
    is_streamed,
    runtime_device,
    runtime_map,
    runtime_units,
    use_physical_cores,
)
from backends.engines.placing import Unit
from backends.errors import DeviceMapInvalid
from backends.placement.types import CpuLayersMode
from tests.support.plans import make_plan


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("cuda:0", (0,), "cuda:0"),
        ("cuda:3", (3,), "cuda:0"),
        ("cuda:1", (3, 1), "cuda:1"),
        ("cuda:3", (3, 1), "cuda:0"),
        ("cpu", (3,), "cpu"),
        ("disk", (), "disk"),
    ],
)
def test_gpus_are_renumbered_by_their_place_among_the_visible(
    device: str, visible: tuple[int, ...], expected: str
) -> None:
    assert runtime_device(device, visible) == expected
    assert driver_device(expected, visible) == device


def test_a_gpu_that_is_not_visible_is_refused() -> None:
    with pytest.raises(DeviceMapInvalid, match="cuda:2"):
        runtime_device("cuda:2", (0, 1))


@pytest.mark.parametrize(
    ("device_map", "expected"),
    [
        ({"model": "cpu", "lm_head": "cpu"}, {"": "cpu"}),
        ({"model": "cuda:2", "lm_head": "cuda:2"}, {"": "cuda:0"}),
        ({"model": "cuda:2", "lm_head": "cpu"}, {"model": "cuda:0", "lm_head": "cpu"}),
        ({"model": "cpu", "lm_head": "disk"}, {"model": "cpu", "lm_head": "disk"}),
        ({}, {"": "cpu"}),
    ],
    ids=["all on the CPU", "all on one GPU", "GPU and CPU", "CPU and disk", "nothing said"],
)
def test_the_device_map_for_transformers(device_map: dict[str, str], expected: dict[str, str]) -> None:
    assert runtime_map(make_plan("x", device_map=device_map, visible_gpus=(2,))) == expected


@pytest.mark.parametrize(
    ("device_map", "mode", "expected"),
    [
        ({"a": "cpu"}, None, False),
        ({"a": "cuda:0"}, None, False),
        ({"a": "cuda:0", "b": "cuda:1"}, None, False),
        ({"a": "cuda:0", "b": "cpu"}, "compute", False),
        ({"a": "cuda:0", "b": "cpu"}, None, False),
        ({"a": "cuda:0", "b": "cpu"}, "stream", True),
        ({"a": "cuda:0", "b": "cpu", "c": "disk"}, "compute", True),
        ({"a": "cpu", "b": "disk"}, None, True),
    ],
)
def test_which_plans_move_weights_in_every_pass(
    device_map: dict[str, str], mode: CpuLayersMode | None, expected: bool
) -> None:
    assert is_streamed(make_plan("x", device_map=device_map, cpu_layers_mode=mode)) == expected


def test_gpus_keep_their_numbers_in_the_plan_and_get_torchs_in_the_engine() -> None:
    plan = make_plan("x", device_map={"a": "cuda:3", "b": "cpu"}, visible_gpus=(3,), cpu_layers_mode="stream")
    assert runtime_units(plan) == (Unit("a", "cuda:0", "cuda:0"), Unit("b", "cpu", "cuda:0"))
    assert runtime_units(make_plan("x", device_map={})) == (Unit("", "cpu", "cpu"),)


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)],
)
def test_dtypes(precision: str, expected: torch.dtype) -> None:
    assert compute_dtype(make_plan("x", precision=precision)) == expected


@pytest.mark.parametrize("precision", ["int8", "nf4"])
@pytest.mark.parametrize(("has_bf16", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_quantized_layers_on_the_cpu_compute_in_what_it_multiplies(
    precision: str, has_bf16: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_bf16})
    assert compute_dtype(make_plan("x", precision=precision)) == expected


def test_threads_follow_the_processors_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    try:
        threads = use_physical_cores()
    finally:
        torch.set_num_threads(before)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert 1 <= threads <= allowed


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such quotas")
def test_a_containers_quota_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("backends.hardware.cgroup.cpu_limit", lambda: 1.0)
    before = torch.get_num_threads()
    try:
        assert use_physical_cores() == 1
    finally:
        torch.set_num_threads(before)


def test_a_persons_choice_of_threads_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert use_physical_cores() == torch.get_num_threads()
