"""What a load by llama.cpp that failed offers: the other engine, or room on the disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.conversion.types import Conversion, WeightType
from backends.errors import (
    Action,
    CpuUnsupported,
    DiskFull,
    FolderReadOnly,
    InternalError,
    ModelDamaged,
    ModelUnsupported,
    OutOfRam,
    PackageMissing,
    SnugError,
    WorkerCrashed,
)
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from backends.service.converted import ConvertedUsage
from backends.worker.stages import CONVERTING
from tests.support.fake_service import GIB, make_plan
from tests.support.tab import Tab
from ui.i18n import Translator
from ui.web.notices import choose
from ui.web.way_out import WayOut, way_out
from ui.web.wiring_model import act_on_model, begin_load, current_notice

SAY, ZH = Translator("en"), Translator("zh")
CACHE = Path("/data/converted")
NOTHING = ConvertedUsage(CACHE, 0, 0, 0, 40 * GIB)
SOME = ConvertedUsage(CACHE, 3 * GIB, 2, GIB, 40 * GIB)
IN_USE = ConvertedUsage(CACHE, GIB, 1, GIB, 40 * GIB)
FULL = DiskFull(needed_bytes=GIB, path=str(CACHE), free_bytes=9)
UNFIT = ModelUnsupported(path="/m", detail="Its tokenizer is of another kind.", suggestion="-")
CONVERTS = replace(
    make_plan(PlanRequest("/models/llava", Preset.CPU)),
    engine="llamacpp",
    precision="q8_0",
    conversion=Conversion(str(CACHE), WeightType.Q8_0, WeightType.F16, nbytes=GIB, source_bytes=2 * GIB),
)
GGUF = replace(CONVERTS, format="gguf", conversion=None)


@pytest.mark.parametrize(
    ("error", "usage", "action"),
    [
        (FULL, SOME, Action.CLEAR_CONVERTED),
        (FULL, NOTHING, Action.USE_TRANSFORMERS),
        (FULL, IN_USE, Action.USE_TRANSFORMERS),
        (FolderReadOnly(path=str(CACHE), detail="-"), SOME, Action.USE_TRANSFORMERS),
        (UNFIT, SOME, Action.USE_TRANSFORMERS),
        (CpuUnsupported(features="AVX2"), NOTHING, Action.USE_TRANSFORMERS),
        (PackageMissing(package="xllamacpp", detail="-"), NOTHING, Action.USE_TRANSFORMERS),
        (InternalError(detail="-", log="-"), NOTHING, Action.USE_TRANSFORMERS),
        (ModelDamaged(path=str(CACHE), detail="-", file="a.gguf"), SOME, Action.CLEAR_CONVERTED),
        (ModelDamaged(path="/models/llava", detail="-", file="a"), SOME, Action.USE_TRANSFORMERS),
        (OutOfRam(stage="loading", needed_bytes=1, free_bytes=0), SOME, None),
        (WorkerCrashed(stage="loading", detail="-"), SOME, None),
    ],
    ids=[
        "full, and something can go",
        "full of other things",
        "full of what is in use",
        "read-only",
        "a tokenizer that can't be written",
        "no AVX2",
        "not installed",
        "no known reason",
        "a converted file is damaged",
        "the checkpoint is damaged",
        "memory has steps of its own",
        "a crash is started again",
    ],
)
def test_the_way_on(error: SnugError, usage: ConvertedUsage, action: Action | None) -> None:
    found = way_out(error, CONVERTS, usage)
    assert (found.action if found else None) == action


@pytest.mark.parametrize(
    "failed", [None, GGUF, make_plan(PlanRequest("m"))], ids=["none", "GGUF", "transformers"]
)
def test_other_loads_have_none(failed: Plan | None) -> None:
    assert way_out(FULL, failed, SOME) is None


def card_of(error: SnugError, usage: ConvertedUsage) -> Any:
    def of(found: SnugError) -> WayOut | None:
        return way_out(found, CONVERTS, usage)

    card = choose((), "empty", None, error, way_out_of=of)
    assert card is not None
    return card


def test_the_card_says_what_the_button_does() -> None:
    full, unfit = card_of(FULL, SOME), card_of(UNFIT, SOME)
    assert full.button(SAY) == "Clear converted files"
    assert "Models that were converted before take 2.0 GB" in full.html(SAY)
    assert "1.0 GB are needed" in full.html(SAY)
    assert unfit.button(SAY) == "Use transformers instead"
    assert "Its tokenizer is of another kind." in unfit.html(SAY)
    assert "nothing is converted" in unfit.html(SAY)
    assert "llama.cpp can&#x27;t run this model." in unfit.html(SAY)
    assert unfit.button(ZH) == "改用 transformers"


def fails(tab: Tab, error: SnugError) -> None:
    """A load of the plan that converts has failed with `error`."""
    state: Any = tab.service._state
    state.status, state.error, state.failed = "empty", error, CONVERTS
    tab.session.request = CONVERTS.request


def test_one_press_loads_it_with_transformers(tab: Tab) -> None:
    fails(tab, UNFIT)
    card = current_notice(tab.context, tab.session)
    assert card is not None
    assert card.action is Action.USE_TRANSFORMERS
    tab.session.request = replace(CONVERTS.request, overrides=Overrides(precision="q4_0", context_tokens=512))
    changed = act_on_model(tab.context, tab.session, card.action, card.error)
    wanted = Overrides(engine="transformers", context_tokens=512)
    assert changed == replace(CONVERTS.request, overrides=wanted)
    assert len(tab.session.notes) == 1
    tab.loader.wait()
    assert [plan.request for plan in tab.service.loads] == [changed]


def test_one_press_clears_and_loads_again(tab: Tab) -> None:
    fails(tab, FULL)
    tab.service.kept_files = SOME
    card = current_notice(tab.context, tab.session)
    assert card is not None
    assert card.action is Action.CLEAR_CONVERTED
    assert act_on_model(tab.context, tab.session, card.action, card.error) is None
    tab.loader.wait()
    assert tab.service.kept_files.removable_bytes == 0
    assert [plan.request for plan in tab.service.loads] == [CONVERTS.request]


@pytest.mark.parametrize("by", ["card", "load"])
def test_what_crashes_at_each_conversion_is_converted_again_once(tab: Tab, by: str) -> None:
    state: Any = tab.service._state

    def crashes() -> Any:
        tab.loader.wait()
        state.status, state.error, state.plan = (
            "crashed",
            WorkerCrashed(stage=CONVERTING, detail="It was ended."),
            CONVERTS,
        )
        card = current_notice(tab.context, tab.session)
        assert card is not None
        return card

    tab.session.request = CONVERTS.request
    first = crashes()
    assert (first.action, first.button(SAY)) == (Action.RESTART, "Convert again")
    if by == "card":
        act_on_model(tab.context, tab.session, first.action, first.error)
    else:
        begin_load(tab.context, tab.session)

    second = crashes()
    assert (second.action, second.button(SAY)) == (Action.USE_TRANSFORMERS, "Use transformers instead")
    assert "nothing is converted" in second.html(SAY)
    assert second.button(ZH) == "改用 transformers"
    # Another request has not been converted again.
    tab.session.request = replace(CONVERTS.request, overrides=Overrides(context_tokens=512))
    assert crashes().action is Action.RESTART
    tab.session.request = CONVERTS.request
    changed = act_on_model(tab.context, tab.session, second.action, second.error)
    assert changed == replace(CONVERTS.request, overrides=Overrides(engine="transformers"))
    tab.loader.wait()
    assert tab.service.loads[-1].request == changed


def test_trouble_of_the_tab_has_nothing_to_do_with_it(tab: Tab) -> None:
    fails(tab, UNFIT)
    tab.session.error = ModelUnsupported(path="/other", detail="No.", suggestion="-")
    card = current_notice(tab.context, tab.session)
    assert card is not None
    assert card.action is Action.PICK_MODEL
