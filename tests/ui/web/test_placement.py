"""Predicted beside measured, as the plan's card shows it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from backends.conversion.types import Conversion, WeightType
from backends.placement.types import PlanRequest
from backends.reports import DeviceMeasured, LoadReport, Measurement
from backends.service import ModelState
from tests.support.fake_service import GIB, make_plan
from ui.i18n import Translator
from ui.web.format import Measured, plan_card
from ui.web.panels import placement

SAY, ZH = Translator("en"), Translator("zh")
PLAN = make_plan(PlanRequest("starter"))
GPU = DeviceMeasured("cuda:0", 8 * GIB, 7 * GIB, 9 * GIB, "driver", 7 * GIB, 7 * GIB)
RAM = DeviceMeasured("cpu", 3 * GIB, 2 * GIB, 2 * GIB, "process")
MEMORY = Measurement(603, 1, 1.2, 3 * GIB, 0.4, 38.2, (GPU, RAM))
REPORT = LoadReport(
    engine="transformers",
    precision="fp32",
    device_map=PLAN.device_map,
    dtype="fp32",
    quantized=0,
    offload_dir=None,
    seconds=1.2,
    peaks=(),
    supports_images=True,
    context_tokens=2048,
)


def bars(card: str) -> list[list[tuple[str, float, float]]]:
    """Of each bar: (class, x, width) of its pieces, the track and the limit left out."""
    found = []
    for drawn in re.findall(r"<svg.*?</svg>", card):
        pieces = re.findall(r'<rect class="(c-[a-z]+)" x="([\d.]+)" y="0" width="([\d.]+)"', drawn)
        found.append([(kind, float(x), float(width)) for kind, x, width in pieces])
    return found


def test_every_predicted_bar_has_the_measured_one_under_it() -> None:
    card = plan_card(PLAN, SAY, Measured(1.2, 0.4, 38.2, MEMORY))
    gpu, gpu_held, ram, ram_held = bars(card)
    assert [kind for kind, _, _ in gpu_held] == ["c-weights", "c-rest"] == [kind for kind, _, _ in ram_held]
    # To one scale: equal weights are equally long, and the bar ends where what was held ends.
    assert gpu_held[0] == gpu[0]
    assert ram_held[0] == ram[0]
    end = sum(gpu_held[-1][1:])
    assert end == pytest.approx(1000 * GPU.held_bytes / PLAN.devices[0].budget_bytes, abs=0.2)


@pytest.mark.parametrize(
    ("say", "line", "read"),
    [
        (
            SAY,
            "was 8.0 GB with 603 tokens; expected 9.0 GB",
            (
                "RTX 4070: was 8.0 GB with 603 tokens; expected 9.0 GB; "
                "Weights: 7.0 GB, All else, measured: 1.0 GB"
            ),
        ),
        (
            ZH,
            "603 词元时实测 8.0 GB，预计 9.0 GB",
            "RTX 4070: 603 词元时实测 8.0 GB，预计 9.0 GB; 权重: 7.0 GB, 其余（实测）: 1.0 GB",
        ),
    ],
    ids=["en", "zh"],
)
def test_it_is_said_in_words_and_read_aloud(say: Translator, line: str, read: str) -> None:
    card = plan_card(PLAN, say, Measured(memory=MEMORY))
    assert f"<span>{line}</span>" in card
    assert f'aria-label="{read}"' in card


def test_where_the_driver_does_not_tell_it_is_said_whose_figure_it_is() -> None:
    alone = replace(MEMORY, devices=(replace(GPU, source="allocator"), RAM))
    assert "torch held 8.0 GB" in plan_card(PLAN, SAY, Measured(memory=alone))


def test_more_than_the_budget_is_drawn_in_full() -> None:
    over = replace(MEMORY, devices=(replace(GPU, held_bytes=22 * GIB), RAM))
    _, held, *_ = bars(plan_card(PLAN, SAY, Measured(memory=over)))
    assert sum(held[-1][1:]) == pytest.approx(1000, abs=0.2)


def test_a_device_that_was_not_measured_has_one_bar() -> None:
    only_ram = replace(MEMORY, devices=(RAM,))
    assert len(bars(plan_card(PLAN, SAY, Measured(memory=only_ram)))) == 3


def test_the_legend_names_the_measured_colour_only_when_it_is_there() -> None:
    assert "All else, measured" not in plan_card(PLAN, SAY)
    assert "All else, measured" in plan_card(PLAN, SAY, Measured(memory=MEMORY))


@pytest.mark.parametrize(
    ("state", "memory"),
    [
        (ModelState("ready", PLAN, REPORT, measured=MEMORY), MEMORY),
        (ModelState("ready", PLAN, REPORT), None),
        (ModelState(), None),
        (ModelState("ready", replace(PLAN, device_map=()), REPORT, measured=MEMORY), None),
    ],
    ids=["measured", "not asked yet", "nothing loaded", "another placement is loaded"],
)
def test_only_what_is_loaded_as_planned_is_shown(state: ModelState, memory: Measurement | None) -> None:
    assert placement.measured(PLAN, state, ()).memory == memory


def test_a_load_that_converted_first_tells_nothing_of_the_next_one() -> None:
    conversion = Conversion("/cache", WeightType.Q8_0, None, nbytes=1, source_bytes=2)
    loaded = replace(PLAN, conversion=conversion)
    done = replace(PLAN, conversion=replace(conversion, ready=True))
    state = ModelState("ready", loaded, REPORT)
    assert placement.measured(loaded, state, ()).load_s == 1.2
    assert placement.measured(done, state, ()).load_s is None
    assert placement.measured(done, ModelState("ready", done, REPORT), ()).load_s == 1.2
