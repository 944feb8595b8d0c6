"""What surrounds a plan that converts: cards, the ladder, moving, replaying, needs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from backends.conversion.types import Offers
from backends.errors import SettingInvalid
from backends.placement import ladder
from backends.placement.converted import offered
from backends.placement.ladder import Rung, Shortage, When
from backends.placement.moving import why_reload
from backends.placement.needs import needs
from backends.placement.planner import plan
from backends.placement.replay import replay
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.placement.workload import workload
from backends.presets import Preset
from tests.support.asked import (
    CARD,
    LAPTOP,
    NO_GPU,
    SIX_GB,
    Asked,
)
from tests.support.machines import GIB, MIB


class TestGpus:
    def test_a_build_for_processors_leaves_cards_alone(self, llava_7b: Asked) -> None:
        for preset in ("auto", "mid", "low", "custom"):
            result = llava_7b.plan(SIX_GB, preset)
            assert result.engine == "transformers" or result.visible_gpus == ()

    def test_a_build_for_gpus_runs_layers_there(self, llava_7b: Asked) -> None:
        result = llava_7b.plan(SIX_GB, "auto", on_gpus=True, engine="llamacpp")
        assert result.engine == "llamacpp"
        assert result.gpu_layers > 0
        assert result.visible_gpus == (0,)
        places = dict(result.device_map)
        assert places["model.vision_tower"] == places["model.multi_modal_projector"]
        assert places["model.language_model.embed_tokens"] == "cpu"

    def test_layers_by_hand_need_such_a_build(self, llava_7b: Asked) -> None:
        able = llava_7b.plan(CARD, "custom", on_gpus=True, engine="llamacpp", gpu_layers=8)
        assert (able.engine, able.gpu_layers) == ("llamacpp", 8)
        with pytest.raises(SettingInvalid, match="computes on the processor only"):
            llava_7b.plan(CARD, "custom", engine="llamacpp", gpu_layers=8)


class TestAround:
    def test_the_ladder_takes_steps_that_are_real(self, llava_7b: Asked) -> None:
        failed = llava_7b.plan(LAPTOP)
        short = Shortage("cpu", "chat", 600 * MIB, 0)
        steps = list(ladder.steps(failed, short, llava_7b.model, llava_7b.judge))
        taken = {step.rung: (step.plan.engine, step.plan.precision) for step in steps}
        assert taken[Rung.NF4] == ("llamacpp", "q4_0")
        assert taken[Rung.DISK][0] == "transformers"
        assert Rung.INT8 not in taken
        assert "answers get rougher" in " ".join(map(str, next(s for s in steps if s.rung is Rung.NF4).costs))

    def test_less_context_is_the_first_step(self, llava_7b: Asked) -> None:
        failed = llava_7b.plan(LAPTOP)
        first = next(ladder.steps(failed, Shortage("cpu", "chat", MIB, 0), llava_7b.model, llava_7b.judge))
        assert first.rung is Rung.CONTEXT
        assert (first.plan.engine, first.plan.precision) == ("llamacpp", "q8_0")
        assert first.plan.context_tokens < failed.context_tokens

    def test_the_processor_is_a_step_from_a_gpu(self, llava_7b: Asked) -> None:
        failed = llava_7b.plan(CARD, "auto")

        def judge(request: PlanRequest) -> Plan:
            return plan(CARD, llava_7b.model, request, offers=llava_7b.offers)

        steps = ladder.steps(failed, Shortage("cuda:0", "chat", 30 * GIB, 0), llava_7b.model, judge)
        step = next(one for one in steps if one.rung is Rung.CPU)
        assert (step.plan.engine, step.plan.precision) == ("llamacpp", "q8_0")
        assert "q8_0 instead of fp16: answers may differ a little." in map(str, step.costs)

    @pytest.mark.parametrize(
        ("preset", "overrides"),
        [
            ("cpu", {"engine": "transformers"}),
            ("auto", {"engine": "transformers"}),
            ("custom", {"precision": "fp32"}),
            ("custom", {"precision": "bf16"}),
        ],
    )
    @pytest.mark.parametrize("when", ["load", "chat"])
    def test_llama_cpp_is_a_step_from_transformers_in_ram(
        self, llava_7b: Asked, preset: str, overrides: dict[str, Any], when: When
    ) -> None:
        failed = llava_7b.plan(NO_GPU, preset, **overrides)
        assert failed.engine == "transformers"
        short = Shortage("cpu", when, 600 * MIB, 0)
        judge = partial(plan, NO_GPU, llava_7b.model, offers=llava_7b.offers)
        steps = {one.rung: one for one in ladder.steps(failed, short, llava_7b.model, judge)}
        step = steps[Rung.LLAMACPP]
        assert next(rung for rung in steps if rung is not Rung.CONTEXT) is Rung.LLAMACPP
        assert (step.plan.engine, step.plan.precision) == ("llamacpp", "q8_0")
        assert step.plan.expected.tokens_per_s > failed.expected.tokens_per_s
        assert step.freed_bytes > 600 * MIB
        assert str(step.name) == "Use llama.cpp"
        said = " ".join(map(str, step.costs))
        assert "is converted for llama.cpp first, once" in said
        assert "q8_0 instead of" in said
        # What was not enough is followed by 4 bits.
        tried = {failed.request: None, step.request: Rung.LLAMACPP}
        later = {one.rung: one for one in ladder.steps(failed, short, llava_7b.model, judge, tried)}
        assert later[Rung.LLAMACPP].plan.precision == "q4_0"

    def test_llama_cpp_is_no_step_where_it_is_known_to_fail(self, llava_7b: Asked) -> None:
        failed = llava_7b.plan(NO_GPU, engine="transformers")
        short = Shortage("cpu", "chat", 600 * MIB, 0)
        judge = partial(plan, NO_GPU, llava_7b.model, offers=llava_7b.offers)
        every = list(ladder.steps(failed, short, llava_7b.model, judge))
        rest = list(ladder.steps(failed, short, llava_7b.model, judge, without=(Rung.LLAMACPP,)))
        assert Rung.LLAMACPP in {step.rung for step in every}
        assert rest == [step for step in every if step.rung is not Rung.LLAMACPP]

    def test_llama_cpp_is_no_step_where_nothing_can_be_converted(self, llava_7b: Asked) -> None:
        failed = llava_7b.plan(NO_GPU, engine="transformers")
        for offers in (Offers(), offered(llava_7b.offers, replace(NO_GPU.cpu, features=("avx",)))):
            judge = partial(plan, NO_GPU, llava_7b.model, offers=offers)
            steps = ladder.steps(failed, Shortage("cpu", "chat", 600 * MIB, 0), llava_7b.model, judge)
            assert Rung.LLAMACPP not in {step.rung for step in steps}

    def test_llama_cpp_is_no_step_from_itself_or_for_a_gpu(self, llava_7b: Asked) -> None:
        for machine, device in ((NO_GPU, "cpu"), (CARD, "cuda:0")):
            failed = llava_7b.plan(machine, "auto")
            short = Shortage(device, "chat", 300 * MIB, 0)
            judge = partial(plan, machine, llava_7b.model, offers=llava_7b.offers)
            steps = ladder.steps(failed, short, llava_7b.model, judge)
            assert Rung.LLAMACPP not in {step.rung for step in steps}

    def test_replay_judges_what_was_loaded(self, llava_7b: Asked) -> None:
        made = llava_7b.plan(NO_GPU)
        converted = next(one.model for one in llava_7b.offers.variants if one.model.dtype == "q8_0")
        again = replay(NO_GPU, converted, made, workload(llava_7b.model, Overrides()))
        assert again == made.devices
        assert replay(NO_GPU, llava_7b.model, made, workload(llava_7b.model, Overrides())) == ()

    def test_it_can_not_be_moved(self, llava_7b: Asked) -> None:
        made = llava_7b.plan(NO_GPU)
        assert "llama.cpp places" in str(why_reload(made, llava_7b.plan(NO_GPU, context_tokens=1024)))
        other = llava_7b.plan(NO_GPU, engine="transformers")
        assert "another engine" in str(why_reload(other, made))

    def test_needs_are_told_for_it(self, llava_7b: Asked) -> None:
        request = PlanRequest("m", Preset.CPU)
        answer = needs(NO_GPU, llava_7b.model, request, offers=llava_7b.offers)
        assert "Q8_0" in str(answer.sentences[0])
        high = needs(NO_GPU, llava_7b.model, PlanRequest("m", Preset.HIGH), offers=llava_7b.offers)
        assert high.change is not None
        assert high.change.preset is Preset.CPU
        assert high.change_plan is not None
        assert high.change_plan.engine == "llamacpp"
        assert high.card is not None
        assert high.card.precision == "fp16"
