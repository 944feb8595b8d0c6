"""Memory runs out in a real child process: what ran out, the next step, and the way through it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.errors import OutOfGpuMemory, OutOfMemory, OutOfRam, RamKilled
from backends.hardware.describe import read_file
from backends.placement.ladder import Rung
from backends.placement.types import Credit, DeviceShare, Overrides, Plan, PlanRequest
from backends.presets import Preset
from backends.service import Service
from backends.service.recovery import device_of, shortage_of
from tests.support import checkpoints
from tests.support.asking import GREEDY, Asker
from tests.support.plans import make_plan
from tests.support.processes import ask

HARDWARE = Path(__file__).resolve().parents[2] / "hardware"
MIB = 1024**2


def on_machine(service: Service, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the service see the machine described in tests/hardware."""
    hardware = read_file(HARDWARE / f"{name}.json")
    monkeypatch.setattr(service._machine, "snapshot", lambda *_args, **_more: hardware)
    monkeypatch.setattr(service._machine, "usable", lambda *_args: hardware)
    monkeypatch.setattr(service._machine, "credit", lambda *_args: Credit())


def fails(service: Service, question: str) -> OutOfMemory:
    asker = Asker(service, "tab", question)
    asker.finish()
    assert isinstance(asker.error, OutOfMemory)
    return asker.error


def test_deep_in_a_chat_on_a_gpu(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_machine(service, "rtx3090", monkeypatch)
    model = str(checkpoints.llava_15_7b(tmp_path / "llava"))
    before = service.plan(PlanRequest(model))
    list(service.load(before))

    error = fails(service, "oom-over:2000")
    offer = service.next_step(error, before, "chat", prompt_tokens=900)

    assert isinstance(offer.error, OutOfGpuMemory)
    assert str(offer.error.what_text) == (
        "NVIDIA GeForce RTX 3090 (GPU 0) ran out of memory while answering."
    )
    assert offer.step is not None
    assert offer.step.rung is Rung.CONTEXT
    assert 900 < offer.step.plan.context_tokens < before.context_tokens
    assert service.state().status == "ready", "the model stays until the person takes the step"

    list(service.load(offer.step.plan))
    assert Asker(service, "tab", "oom-over:2000").done.finish_reason == "stop"
    # Undoing is loading the request from before.
    list(service.load(service.plan(before.request)))
    loaded = service.state().plan
    assert loaded is not None
    assert (loaded.request, loaded.device_map) == (before.request, before.device_map)


def test_at_load_in_ram(service: Service, tmp_path: Path) -> None:
    model = str(checkpoints.starter_like(tmp_path / "oom-load-fp32 图"))
    before = service.plan(PlanRequest(model, Preset.CPU, Overrides(precision="fp32")))

    with pytest.raises(OutOfRam) as caught:
        list(service.load(before))
    state = service.state()
    assert (state.status, state.error, state.failed) == ("empty", caught.value, before)

    offer = service.next_step(caught.value, before, "load")
    assert offer.step is not None
    assert offer.step.rung is Rung.HALF
    list(service.load(offer.step.plan))
    assert service.state().failed is None
    assert Asker(service, "tab", "hello").done.finish_reason == "stop"


def test_nothing_more_to_try_is_said(service: Service, tmp_path: Path) -> None:
    model = str(checkpoints.starter_like(tmp_path / "tiny"))
    plan = service.plan(PlanRequest(model, Preset.CPU))
    error = OutOfRam(stage="answering", needed_bytes=900 * 1024 * MIB, free_bytes=0)

    offer = service.next_step(error, plan, "chat")
    assert offer.step is None
    assert "nothing more to try" in str(offer.nothing)


def test_at_the_first_picture_the_card_says_so(service: Service, tmp_path: Path) -> None:
    model = str(checkpoints.starter_like(tmp_path / "tiny"))
    plan = service.plan(PlanRequest(model, Preset.CPU))
    error = OutOfRam(stage="answering", needed_bytes=0, free_bytes=7 * MIB)

    offer = service.next_step(error, plan, "image")
    assert str(offer.error.what_text) == "The machine ran out of memory while looking at the picture."
    assert str(offer.error.why_text) == "How much was missing is not known; 7.0 MB were free."


def plan_on(*gpus: int) -> Plan:
    return make_plan("m", visible_gpus=gpus)


@pytest.mark.parametrize(
    ("error", "gpus", "device", "needed"),
    [
        (OutOfGpuMemory(device="GPU 2", stage="x", needed_bytes=9, free_bytes=1), (2, 3), "cuda:2", 9),
        (OutOfGpuMemory(device="GPU 3", stage="x", needed_bytes=9, free_bytes=1), (2, 3), "cuda:3", 9),
        (OutOfGpuMemory(device="3090 (GPU 3)", stage="x", needed_bytes=9, free_bytes=1), (2, 3), "cuda:3", 9),
        (OutOfGpuMemory(device="GPU 0", stage="x", needed_bytes=9, free_bytes=1), (3,), "cuda:3", 9),
        (OutOfGpuMemory(device="A GPU", stage="x", needed_bytes=9, free_bytes=1), (3,), "cuda:3", 9),
        (OutOfGpuMemory(device="cpu", stage="x", needed_bytes=9, free_bytes=1), (), "cpu", 9),
        (OutOfGpuMemory(device="?", stage="x", needed_bytes="lots", free_bytes=1), (), "cuda:0", 0),
        (OutOfRam(stage="x", needed_bytes=9, free_bytes=1), (2, 3), "cpu", 9),
        (RamKilled(stage="x", needed_bytes=9, free_bytes=1), (), "cpu", 0),
    ],
    ids=[
        "the driver's number", "the second one's", "as a person was told it", "no other GPU is in use",
        "not told, and only one is in use", "by the plan's name", "no name and no figure", "main memory",
        "ended by the system: what was planned is not what lacked",
    ],
)  # fmt: skip
def test_what_ran_out(error: OutOfMemory, gpus: tuple[int, ...], device: str, needed: int) -> None:
    found = shortage_of(error, plan_on(*gpus), "chat")
    assert (found.device, found.needed_bytes) == (device, needed)


@pytest.mark.parametrize("named", ["A GPU", "GPU 0"], ids=["not told", "one that the plan does not use"])
def test_where_nobody_knows_which_gpu_the_tightest_is_relieved_and_none_is_blamed(named: str) -> None:
    spare = {"cuda:2": 900 * MIB, "cuda:3": 300 * MIB, "cpu": 0}
    shares = tuple(
        DeviceShare(device, "x", 10_000 * MIB + more, 10_000 * MIB, 0, 0, 0, 0)
        for device, more in spare.items()
    )
    plan = replace(plan_on(2, 3), devices=shares)
    error = OutOfGpuMemory(device=named, stage="x", needed_bytes=9, free_bytes=1)
    assert shortage_of(error, plan, "chat").device == "cuda:3"
    assert device_of(error, plan) is None


def test_ended_by_the_kernel_while_answering(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is a crash whose error leads down the ladder; the next plan loads and answers."""
    kills = iter([0, 0, 0])
    monkeypatch.setattr("backends.worker.client.oom_kills", lambda: next(kills, 1))
    monkeypatch.setattr("backends.worker.client.ran_out_of_ram", lambda *_args, oom_kills: oom_kills > 0)
    plan = service.plan(PlanRequest(str(checkpoints.starter_like(tmp_path / "tiny")), Preset.CPU))
    list(service.load(plan))

    stream: Any = service.chat("tab", ask("crash"), GREEDY)
    with pytest.raises(RamKilled) as caught:
        list(stream)
    state = service.state()
    assert (state.status, state.plan) == ("crashed", plan)
    offer = service.next_step(caught.value, plan, "chat")
    assert offer.step is not None
    monkeypatch.setattr("backends.worker.client.oom_kills", lambda: 1)
    list(service.load(offer.step.plan))
    assert Asker(service, "tab", "hello").done.finish_reason == "stop"
