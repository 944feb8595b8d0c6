"""Predicted beside measured, with the bundled model in the real engine and a real table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from backends.errors import OutOfGpuMemory
from backends.history.measurements import Measurements
from backends.messages import Done, Message, Role, TextPart
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from backends.service import Service
from backends.settings import Settings
from tests.support.asking import GREEDY

MIB, GIB = 2**20, 2**30
STARTER = PlanRequest("starter", Preset.CPU, Overrides(engine="transformers"))


def ask(service: Service, settings: Settings, text: str, session: str = "tab") -> Done:
    picture = min(settings.examples.glob("*.png"))
    image = service.import_image(picture, picture.name)
    done = list(service.chat(session, (Message(Role.USER, (image, TextPart(text))),), GREEDY))[-1]
    assert isinstance(done, Done)
    return done


@pytest.fixture
def table(settings: Settings) -> Path:
    return settings.home / "measurements.sqlite3"


def test_a_real_model_is_measured_shown_and_learnt_from(settings: Settings, table: Path) -> None:
    with Service(settings, preload=False) as service:
        plan = service.plan(STARTER)
        list(service.load(plan))
        report = service.state().report
        assert report is not None
        assert service.state().measured is None, "nothing was asked yet"
        done = ask(service, settings, "How many shapes are there?")
        measured = service.state().measured
        assert measured is not None
        used = done.usage.prompt_tokens + done.usage.completion_tokens
        assert (measured.context_tokens, measured.images) == (used, 1)
        assert measured.load_s == report.seconds
        assert measured.load_peak_ram_bytes == dict(report.peaks)["cpu"]
        assert (measured.first_token_s, measured.tokens_per_s) == (
            done.timings.first_token_s,
            done.timings.tokens_per_s,
        )
        (ram,) = measured.devices
        assert (ram.device, ram.source) == ("cpu", "process")
        (share,) = plan.devices
        assert ram.weights_bytes == pytest.approx(share.weights_bytes, rel=0.02)
        assert ram.weights_bytes + 100 * MIB < ram.held_bytes < 2**30
        # The whole context was not used: the formula for what was is below the plan's, and near the truth.
        assert ram.expected_bytes < share.total_bytes
        assert abs(ram.held_bytes - ram.expected_bytes) < 150 * MIB

        (row,) = Measurements(table).rows()
        assert (row.engine, row.precision, row.kind) == (plan.engine, plan.precision, "cpu")
        assert row.expected_bytes + share.weights_bytes + row.predicted.kv_cache_bytes == ram.expected_bytes
        assert not row.failed

        # A longer conversation may only add to it, in the same row.
        ask(service, settings, "And now a longer question about the very same picture.", "another tab")
        again = service.state().measured
        assert again is not None
        assert again.devices[0].held_bytes >= ram.held_bytes
        assert len(Measurements(table).rows()) == 1
    with Service(settings, preload=False) as service:
        when, kept = service.measured(service.plan(STARTER)) or (0, None)
        assert kept == again
        assert when > 0
        other = PlanRequest("starter", Preset.CPU, replace(plan.request.overrides, context_tokens=1024))
        assert service.measured(service.plan(other)) is None, "another context was never run"


def test_what_is_measured_after_a_move_belongs_to_the_new_plan(settings: Settings, table: Path) -> None:
    with Service(settings, preload=False) as service:
        plan = service.plan(STARTER)
        list(service.load(plan))
        before = ask(service, settings, "How many shapes are there?")
        first = service.state().measured
        assert first is not None

        on_disk = tuple(
            (name, "disk" if name.endswith(("layers.1", "layers.2")) else "cpu")
            for name, _ in plan.device_map
        )
        overrides = Overrides(device_map=on_disk, precision="fp32")
        moved = service.plan(PlanRequest("starter", Preset.CUSTOM, overrides))
        assert service.why_reload(moved) is None
        list(service.load(moved))
        assert service.state().measured is None, "nothing was asked of it yet"
        after = ask(service, settings, "How many shapes are there?")
        assert after.token_ids == before.token_ids

        second = service.state().measured
        assert second is not None
        assert (second.load_s, second.load_peak_ram_bytes) == (None, None), "it was not loaded"
        (then,), now = first.devices, {one.device: one for one in second.devices}
        shares = {share.device: share for share in moved.devices}
        assert now["cpu"].weights_bytes == pytest.approx(shares["cpu"].weights_bytes, rel=0.02)
        assert now["cpu"].weights_bytes < then.weights_bytes
        assert abs(now["cpu"].held_bytes - now["cpu"].expected_bytes) < 150 * MIB

        rows = Measurements(table).rows()
        assert len({row.placement for row in rows}) == len({row.run for row in rows}) == 2
        for one in (plan, moved):
            assert service.measured(one) is not None

        list(service.load(plan))
        assert ask(service, settings, "How many shapes are there?").token_ids == before.token_ids


def total(plan: Plan) -> int:
    return sum(share.total_bytes for share in plan.devices)


def test_the_next_plan_is_corrected_and_says_so(settings: Settings, table: Path) -> None:
    request = STARTER
    with Service(settings, preload=False) as service:
        before = service.plan(request)
        list(service.load(before))
        ask(service, settings, "What is this?")
    store = Measurements(table)
    (row,) = store.rows()
    store.add((replace(row, measured_bytes=int(row.expected_bytes * 1.2)),))
    with Service(settings, preload=False) as service:
        after = service.plan(request)
        (share,), (old,) = after.devices, before.devices
        assert (share.weights_bytes, share.kv_cache_bytes) == (old.weights_bytes, old.kv_cache_bytes)
        assert share.overhead_bytes > old.overhead_bytes * 1.15
        said = [reason for reason in after.reasons if reason.code == "reason.corrected_up"]
        assert [dict(reason.values)["percent"] for reason in said] == [20]
        # What is described, not measured, knows nothing of this machine's runs.
        described = service.plan(request, service.snapshot())
        assert total(described) == total(before)


def test_a_table_that_can_be_neither_read_nor_written_costs_no_answer(
    settings: Settings, table: Path
) -> None:
    table.parent.mkdir(parents=True, exist_ok=True)
    table.mkdir()
    with Service(settings, preload=False) as service:
        plan = service.plan(STARTER)
        list(service.load(plan))
        assert ask(service, settings, "What is this?").finish_reason in {"stop", "length"}
        assert service.state().measured is not None
        assert service.measured(plan) is not None, "remembered for as long as the service lives"


def test_running_out_of_memory_teaches_the_next_plan(settings: Settings, table: Path) -> None:
    # A limit by hand: what other programs take or give meanwhile then changes nothing.
    request = PlanRequest("starter", Preset.CPU, Overrides(max_memory=(("cpu", GIB),)))
    with Service(settings, preload=False, engine="fake") as service:
        before = service.plan(request)
        list(service.load(before))
        messages = (Message(Role.USER, (TextPart("oom"),)),)
        with pytest.raises(OutOfGpuMemory):
            list(service.chat("tab", messages, GREEDY))
        (row,) = Measurements(table).rows()
        assert (row.failed, row.device) == (True, before.devices[0].device)
        after = service.plan(request)
        assert after.devices[0].overhead_bytes > before.devices[0].overhead_bytes
        assert "reason.corrected_up" in [reason.code for reason in after.reasons]
