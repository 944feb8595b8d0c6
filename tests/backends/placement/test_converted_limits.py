"""What llama.cpp lacks, beside what it is asked for: GPUs it is not built for, contexts beyond its window."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backends.conversion.types import Layout, Offers
from backends.errors import SettingInvalid
from backends.models.types import ModuleKind
from backends.placement import converted, gguf
from backends.placement.planner import question
from backends.placement.types import PlanRequest
from backends.presets import Preset
from tests.support.asked import CARD, LAPTOP, NO_GPU, SIX_GB, Asked, chosen, said
from tests.support.machines import MIB


@pytest.mark.parametrize(
    ("preset", "set_"),
    [
        pytest.param("auto", {"engine": "llamacpp"}, id="the engine"),
        pytest.param("auto", {"precision": "q8_0"}, id="a precision"),
        pytest.param("low", {"engine": "llamacpp"}, id="another preset"),
        pytest.param("high", {"engine": "llamacpp"}, id="a preset that uses GPUs only"),
    ],
)
def test_llama_cpp_leaves_a_gpu_alone_and_says_why(
    llava_7b: Asked, preset: str, set_: dict[str, Any]
) -> None:
    result = llava_7b.plan(CARD, preset, **set_)
    assert result.engine == "llamacpp"
    codes = [reason.code for reason in result.reasons]
    assert codes.count("hardware.llama_cpu") == 1
    assert not {"reason.cpu_chosen", "reason.gpu_only", "reason.no_gpu"}.intersection(codes)


def test_where_snug_chose_it_the_gpu_is_too_small_as_well(llava_7b: Asked) -> None:
    result = llava_7b.plan(SIX_GB, "auto", images=0)
    codes = [reason.code for reason in result.reasons]
    assert ("hardware.llama_cpu" in codes) == (result.engine == "llamacpp")


@pytest.mark.parametrize(
    ("hardware", "preset", "on_gpus"),
    [
        pytest.param(NO_GPU, "auto", False, id="no GPU"),
        pytest.param(CARD, "cpu", False, id="a preset without GPUs"),
        pytest.param(CARD, "auto", True, id="a build for GPUs"),
    ],
)
def test_a_build_is_blamed_for_nothing_else(
    llava_7b: Asked, hardware: Any, preset: str, on_gpus: bool
) -> None:
    result = llava_7b.plan(hardware, preset, on_gpus=on_gpus, engine="llamacpp")
    assert "hardware.llama_cpu" not in [reason.code for reason in result.reasons]


@pytest.mark.parametrize("set_", [{"gpus": (0,)}, {"gpu_layers": 2}], ids=["gpus", "gpu_layers"])
@pytest.mark.parametrize("how", [{"engine": "llamacpp"}, {"precision": "q4_0"}], ids=["engine", "precision"])
def test_gpus_are_refused_to_an_engine_that_uses_none(
    llava_7b: Asked, set_: dict[str, Any], how: dict[str, Any]
) -> None:
    with pytest.raises(SettingInvalid, match="computes on the processor only"):
        llava_7b.plan(CARD, "auto", **set_, **how)
    assert llava_7b.plan(CARD, "auto", on_gpus=True, **set_, **how).engine == "llamacpp"


def _windowed(asked: Asked, most: int) -> Asked:
    variants = tuple(
        replace(one, model=replace(one.model, text=replace(one.model.text, max_context=most)))
        for one in asked.offers.variants
    )
    return Asked(asked.model, Offers(variants))


@pytest.mark.parametrize("set_", [{"engine": "llamacpp"}, {"precision": "q8_0"}], ids=["engine", "precision"])
def test_the_usual_context_ends_where_llama_cpps_does(llava_7b: Asked, set_: dict[str, Any]) -> None:
    short = _windowed(llava_7b, 1024)
    result = short.plan(NO_GPU, "cpu", **set_)
    assert (result.engine, result.context_tokens) == ("llamacpp", 1024)
    assert "at most 1,024 tokens" in said(result)
    assert "GPUs only" not in said(result)


def test_nobody_shortens_what_transformers_reads(llava_7b: Asked) -> None:
    result = _windowed(llava_7b, 1024).plan(NO_GPU, "cpu")
    assert result.engine == "transformers"
    assert result.context_tokens == llava_7b.plan(NO_GPU, "cpu").context_tokens


def test_pictures_that_leave_no_room_in_a_short_window_are_refused(llava_7b: Asked) -> None:
    with pytest.raises(SettingInvalid, match="at most 256 tokens"):
        _windowed(llava_7b, 256).plan(NO_GPU, "cpu", engine="llamacpp")


def test_a_context_by_hand_is_refused_with_what_would_do(llava_7b: Asked) -> None:
    with pytest.raises(SettingInvalid, match="Set a shorter context, or leave out precision and engine"):
        _windowed(llava_7b, 1024).plan(NO_GPU, "cpu", precision="q8_0", context_tokens=2048)


def test_a_precision_nobody_has_names_those_of_both_engines(llava_7b: Asked) -> None:
    with pytest.raises(SettingInvalid, match="f16, q8_0, q4_0"):
        llava_7b.plan(LAPTOP, "cpu", precision="f32")


@pytest.mark.parametrize("set_", [{"offload_dir": "x"}, {"cpu_layers_mode": "stream"}])
def test_no_layers_on_gpus_are_suggested_for_what_they_do_not_help(
    llava_7b: Asked, set_: dict[str, Any]
) -> None:
    with pytest.raises(SettingInvalid) as caught:
        llava_7b.plan(LAPTOP, "cpu", engine="llamacpp", **set_)
    assert "gpu_layers" not in str(caught.value.values["suggestion"])


def test_a_plan_within_the_window_says_nothing_of_it(llava_7b: Asked) -> None:
    result = llava_7b.plan(NO_GPU, "cpu", engine="llamacpp")
    assert chosen(result)[0] == "llamacpp"
    assert "sliding" not in said(result)


def test_comparing_reads_the_picture_part_at_full_width(llava_7b: Asked) -> None:
    case = question(NO_GPU, llava_7b.model, PlanRequest("m", Preset.CPU))
    variant = llava_7b.offers.variants[0]
    afresh = converted.case_of(case, variant, on_gpus=False)
    eyes = [one for one in variant.model.modules if one.kind in (ModuleKind.VISION, ModuleKind.PROJECTOR)]
    parameters = sum(one.parameters for one in eyes)
    assert gguf._making_bytes(afresh) == 600 * MIB + 4 * parameters
    assert gguf._making_bytes(afresh) > 1.8e9
    done = replace(afresh, conversion=replace(variant.conversion, layout=Layout.PLAIN))
    assert gguf._making_bytes(done) == gguf.CONVERTING_BYTES
