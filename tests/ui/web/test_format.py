"""What the side bar says of machines, plans and errors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.conversion.types import Conversion, WeightType
from backends.errors import ImageUnreadable, OutOfGpuMemory
from backends.hardware.types import Gpu, GpuProcess
from backends.messages import Done, FinishReason, Timings, Usage
from backends.placement.gguf_words import no_mmproj
from backends.placement.types import DeviceShare, Plan, PlanRequest
from backends.presets import Preset
from backends.reports import UnloadReport
from backends.text import Text
from tests.support.fake_service import CPU_MACHINE, GIB, GPU_MACHINE, make_plan
from ui.i18n import Translator
from ui.web.format import (
    Measured,
    error_card,
    hardware_card,
    plan_card,
    plan_details,
    stats_line,
    unloaded_text,
)
from ui.web.html import Segment, bar

SAY = Translator("en")
ZH = Translator("zh")
PLAN = make_plan(PlanRequest("starter"))
EVIL = "<script>alert('x')</script>"


def test_a_machine_with_a_gpu_at_one_glance() -> None:
    card = hardware_card(GPU_MACHINE, SAY)
    for shown in ("RTX 4070", "7.1 / 12.0 GB", "31 %", "54 °C", "blender 3.0 GB", "8 cores AVX2", "210 GB"):
        assert shown in card
    assert 'aria-label="NVIDIA GeForce RTX 4070: 7.1 GB of 12.0 GB in use"' in card


def test_a_machine_without_a_driver_says_so() -> None:
    assert "No NVIDIA driver" in hardware_card(CPU_MACHINE, SAY)


def test_our_own_process_is_nobody_elses() -> None:
    ours = GpuProcess(1, "python", GIB, ours=True)
    machine = replace(GPU_MACHINE, gpus=(replace(GPU_MACHINE.gpus[0], processes=(ours,)),))
    assert "python" not in hardware_card(machine, SAY)


def test_figures_that_a_driver_does_not_give_are_left_out() -> None:
    machine = replace(GPU_MACHINE, gpus=(Gpu(0, "Old GPU", 2 * GIB, GIB),))
    card = hardware_card(machine, SAY)
    assert "Old GPU" in card
    assert "None" not in card
    assert "%" not in card


def test_a_plan_at_one_glance() -> None:
    card = plan_card(PLAN, SAY)
    for shown in (
        "fits",
        "transformers",
        "fp32",
        "4 layers on GPU",
        "38 tokens/s",
        "0.4 s",
        "9.1 GB of 11.0 GB",
    ):
        assert shown in card
    assert "RTX 4070: Weights: 7.0 GB, KV cache: 1.0 GB" in card
    assert "Free: " in card


@pytest.mark.parametrize(
    ("gpu_layers", "said"), [(4, "4 layers on GPU"), (0, "4 layers on CPU"), (3, "3 layers on GPU, 1 off it")]
)
def test_where_the_layers_are(gpu_layers: int, said: str) -> None:
    assert said in plan_card(replace(PLAN, gpu_layers=gpu_layers), SAY)


@pytest.mark.parametrize(("precision", "said"), [("int8", "8-bit"), ("nf4", "4-bit"), ("bf16", "bf16")])
def test_precisions_in_peoples_words(precision: str, said: str) -> None:
    assert f"transformers · {said} ·" in plan_card(replace(PLAN, precision=precision), SAY)


LLAMA = replace(
    PLAN,
    engine="llamacpp",
    precision="q8_0",
    conversion=Conversion("/cache", WeightType.Q8_0, WeightType.F16, nbytes=GIB, source_bytes=2 * GIB),
)
ONCE = Text.of("converted.once", "It takes {seconds:seconds} and {size:bytes}.", seconds=12.0, size=GIB)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (LLAMA, "Will be converted once: 1.0 GB on the disk."),
        (replace(LLAMA, reasons=(ONCE,)), "Will be converted once: about 12 s, 1.0 GB on the disk."),
        (
            replace(LLAMA, conversion=replace(LLAMA.conversion, ready=True)),  # type: ignore[type-var]
            "Already converted for llama.cpp: 1.0 GB on the disk.",
        ),
    ],
    ids=["nobody knows how long", "once", "done"],
)
def test_a_plan_that_converts_says_so(plan: Plan, said: str) -> None:
    card = plan_card(plan, SAY)
    assert "llama.cpp · 8-bit (Q8_0) ·" in card
    assert said in card


def test_a_plan_that_can_t_be_carried_out_converts_nothing() -> None:
    assert "converted" not in plan_card(replace(LLAMA, verdict="no"), SAY)


def test_what_the_engine_did_to_the_files_is_told() -> None:
    note = Text.of("llamacpp.repaired_order", "{file} was repaired.", file="mmproj.gguf")
    assert "mmproj.gguf was repaired." in plan_card(LLAMA, SAY, Measured(notes=(note,)))


def test_a_gguf_file_without_its_picture_part_says_so_in_the_card() -> None:
    plan = replace(PLAN, format="gguf", engine="llamacpp", reasons=(no_mmproj(),))
    assert "No mmproj file that fits it lies beside the file" in plan_card(plan, SAY)


def test_a_plan_that_does_not_fit_promises_no_speed() -> None:
    card = plan_card(replace(PLAN, verdict="no"), SAY)
    assert "does not fit" in card
    assert "tokens/s" not in card


def test_a_device_over_its_budget_stands_out() -> None:
    share = DeviceShare("cuda:0", "GPU", 4 * GIB, 6 * GIB, 0, 0, 0, 0)
    card = plan_card(replace(PLAN, devices=(share,)), SAY)
    assert "sn-over" in card
    assert 'class="sn-limit"' in card


def test_reasons_and_alternatives_are_escaped() -> None:
    details = plan_details(PLAN, SAY)
    assert "Everything fits on one &lt;device&gt;." in details
    assert "nf4" in details


@pytest.mark.parametrize(
    "html",
    [
        hardware_card(replace(GPU_MACHINE, gpus=(replace(GPU_MACHINE.gpus[0], name=EVIL),)), SAY),
        hardware_card(replace(GPU_MACHINE, disk=replace(GPU_MACHINE.disk, path=EVIL)), SAY),
        plan_card(replace(PLAN, devices=(replace(PLAN.devices[0], name=EVIL),)), SAY),
        error_card(ImageUnreadable(name=EVIL, detail=EVIL), SAY),
        bar([Segment("c", EVIL, 1)], 2, EVIL),
    ],
    ids=["GPU name", "disk path", "device name", "error", "bar"],
)
def test_names_from_outside_are_escaped(html: str) -> None:
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_a_bar_is_as_wide_as_its_parts() -> None:
    drawn = bar([Segment("a", "A", 1), Segment("b", "B", 3), Segment("c", "C", 0)], 8, "eighths")
    assert 'class="a" x="0.0" y="0" width="125.0"' in drawn
    assert 'class="b" x="125.0" y="0" width="375.0"' in drawn
    assert 'class="c"' not in drawn


def test_an_error_says_what_why_and_what_to_do() -> None:
    error = OutOfGpuMemory(device="GPU 0", stage="loading", needed_bytes=2 * GIB, free_bytes=GIB)
    card = error_card(error, SAY)
    assert 'role="alert"' in card
    for sentence in ("GPU 0 ran out of memory", "2.0 GB more were needed", "Choose a preset"):
        assert sentence in card
    assert "显存不足" in error_card(error, ZH)


@pytest.mark.parametrize(
    ("finish", "tokens", "images", "said"),
    [
        ("stop", 30, 576, "0.4 s to first word · 38 tokens/s · 576 image tokens"),
        ("stop", 30, 0, "0.4 s to first word · 38 tokens/s"),
        ("stop", 1, 0, "0.4 s to first word"),
        ("length", 30, 0, "0.4 s to first word · 38 tokens/s · cut at the length limit"),
        ("cancelled", 30, 0, "0.4 s to first word · 38 tokens/s · stopped"),
        ("cancelled", 0, 0, "stopped"),
    ],
    ids=["with a picture", "text only", "one token has no speed", "cut", "stopped", "stopped before a word"],
)
def test_figures_under_an_answer(finish: FinishReason, tokens: int, images: int, said: str) -> None:
    done = Done(finish, Usage(600, images, tokens), Timings(0.41, 38.2, 1.0), tuple(range(tokens)))
    assert stats_line(done, SAY) == said


def test_an_unload_says_how_much_came_back() -> None:
    assert unloaded_text(UnloadReport(GIB, GIB, 0.31), SAY) == "Unloaded: 2.0 GB came back in 0.3 s."


def test_a_preset_in_every_language_changes_every_word() -> None:
    plan = make_plan(PlanRequest("starter", Preset.LOW))
    assert "4 位" in plan_card(plan, ZH)
    assert "词元/秒" in plan_card(plan, ZH)
