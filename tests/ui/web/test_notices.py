"""The card above the message box, and what it offers."""

from __future__ import annotations

from dataclasses import replace
from html import unescape
from typing import Any

import pytest

from backends.errors import (
    Action,
    GpuUnsupported,
    KernelsMissing,
    ModelNotFound,
    NotLoaded,
    WorkerCrashed,
)
from backends.placement.types import Overrides, PlanRequest
from backends.presets import Preset
from backends.worker.stages import CONVERTING
from tests.support.climbing_tab import Open
from tests.support.machines import gpu
from tests.support.tab import ASKED, CRASH
from ui.i18n import Translator
from ui.web import chat_flow, notices

CONVERTING_CRASH = WorkerCrashed(stage=CONVERTING, detail="It was ended.")


@pytest.mark.parametrize(
    ("turns", "status", "of_tab", "of_model", "label"),
    [
        ((), "ready", None, None, None),
        ((), "crashed", None, CRASH, "action.restart"),
        ((), "crashed", NotLoaded(), CRASH, "action.restart"),
        ((), "crashed", None, CONVERTING_CRASH, "action.convert_again"),
        ((), "empty", CONVERTING_CRASH, None, "action.convert_again"),
        ((), "empty", NotLoaded(), None, "action.load"),
        (chat_flow.fail(ASKED, CRASH), "ready", None, None, "action.ask_again"),
        (chat_flow.fail(ASKED, CRASH), "loading", None, None, None),
        ((), "empty", None, ModelNotFound(path="/x", detail="No."), "action.pick_model"),
        (chat_flow.fail(ASKED, CRASH), "ready", CRASH, None, "action.ask_again"),
        (chat_flow.fail(ASKED, CRASH), "loading", CRASH, None, None),
        ((), "ready", NotLoaded(), None, None),
        ((), "crashed", None, KernelsMissing(device="GPU 0"), "action.sixteen_bits"),
    ],
    ids=[
        "all is well",
        "a crash",
        "a crash outranks the tab",
        "a crash while converting",
        "a crash while converting, in this tab",
        "not loaded",
        "back again",
        "coming back",
        "lost",
        "another tab started it again",
        "another tab is starting it again",
        "loaded meanwhile",
        "it would end of that again",
    ],
)
def test_the_card_that_helps_most(
    turns: Any, status: str, of_tab: Any, of_model: Any, label: str | None
) -> None:
    card = notices.choose(turns, status, of_tab, of_model)
    assert (card.label if card else None) == label


@pytest.mark.parametrize(
    ("language", "button", "kept"),
    [
        ("en", "Convert again", "so is what was converted to its end. The rest is converted again."),
        ("zh", "重新转换", "其余部分将重新转换"),
    ],
)
def test_a_crash_while_converting_says_what_its_button_does(language: Any, button: str, kept: str) -> None:
    say = Translator(language)
    card = notices.choose((), "crashed", None, CONVERTING_CRASH)
    assert card is not None
    assert card.action is Action.RESTART
    assert card.button(say) == button
    assert kept in unescape(card.html(say))
    other = notices.choose((), "crashed", None, CRASH)
    assert other is not None
    assert "Start the model again" in other.html(Translator("en"))


@pytest.mark.parametrize(("preset", "left"), [(Preset.AUTO, Preset.AUTO), (Preset.LOW, Preset.CUSTOM)])
@pytest.mark.parametrize(
    ("language", "button"), [("en", "Plan with 16-bit weights"), ("zh", "使用 16 位权重重新规划")]
)
def test_without_kernels_one_press_plans_what_needs_none(
    open_tab: Open, preset: Preset, left: Preset, language: Any, button: str
) -> None:
    tab = open_tab(machine="rtx4070_laptop_8gb")
    by_hand = Overrides(context_tokens=1024)
    # The planner's own, or a person's.
    by_hand = replace(by_hand, precision="nf4") if preset is Preset.AUTO else replace(by_hand, gpu_layers=30)
    asked = replace(tab.context.start, preset=preset, overrides=by_hand)
    assert tab.service.plan(asked).precision in ("int8", "nf4")
    tab.session.request, tab.session.error = asked, KernelsMissing(device="GPU 0")
    tab.session.language = language
    assert tab.says(language).endswith(f"|{button}")

    tab.press()

    request = tab.session.request
    assert request == replace(asked, preset=left, overrides=Overrides(context_tokens=1024, precision="bf16"))
    plan = tab.service.plan(request)
    assert plan.precision in ("bf16", "fp16")
    assert plan.gpu_layers > 0, "the GPU itself is as good as before"
    assert plan.verdict != "no"
    assert tab.card is None
    assert bool(tab.session.notes) is (left is not preset)


@pytest.mark.parametrize("preset", list(Preset))
def test_less_memory_always_ends_on_the_cpu(preset: Preset) -> None:
    steps = [preset]
    while notices.lower_preset(steps[-1]) is not steps[-1]:
        steps.append(notices.lower_preset(steps[-1]))
        assert len(steps) < 8
    assert steps[-1] is Preset.CPU


@pytest.mark.parametrize(
    ("without", "asked", "preset", "left"),
    [
        ("1", None, "high", (0, 2)),
        ("0,2", None, "high", (1,)),
        ("1", (1, 2), "high", (2,)),
        ("0,1,2", None, "cpu", None),
        ("1", (1,), "cpu", None),
        ("", None, "cpu", None),
    ],
    ids=[
        "one of three",
        "two of three",
        "one of two that were chosen",
        "all",
        "the chosen one",
        "nobody knows",
    ],
)
def test_a_plan_without_the_gpus_that_torch_can_not_use(
    without: str, asked: tuple[int, ...] | None, preset: str, left: tuple[int, ...] | None
) -> None:
    error = GpuUnsupported(device="a GPU", gpus=without, detail="It holds no code for it.")
    by_hand = Overrides(
        gpus=asked, precision="bf16", device_map=(("", "cuda:1"),), max_memory=(("cuda:1", 9),)
    )

    made = notices.without_gpus(PlanRequest("m", Preset.HIGH, by_hand), error, [gpu(0), gpu(1), gpu(2)])

    assert made == PlanRequest("m", Preset(preset), Overrides(gpus=left, precision="bf16"))


def test_without_its_only_gpu_a_plan_keeps_the_limit_on_ram_and_no_precision_of_gpus() -> None:
    by_hand = Overrides(precision="nf4", max_memory=(("cuda:0", 9), ("cpu", 7)), context_tokens=512)
    error = GpuUnsupported(device="GPU 0", gpus="0", detail="It holds no code for it.")

    made = notices.without_gpus(PlanRequest("m", Preset.LOW, by_hand), error, [gpu(0)])

    assert made == PlanRequest("m", Preset.CPU, Overrides(max_memory=(("cpu", 7),), context_tokens=512))
