"""GGUF files are planned for llama.cpp: what comes out, what is said, how fast it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.errors import SettingInvalid
from backends.models.identify import identify
from backends.models.types import GgufDetails, LayerCache, ModelInfo, Module, ModuleKind
from backends.placement import gguf_memory
from backends.placement.estimate import Workload
from backends.placement.export import plan_to_json
from backends.placement.gguf import _better, candidates, in_ram, judge
from backends.placement.needs import needs
from backends.placement.planner import plan, question
from backends.placement.replay import replay
from backends.placement.types import Expected, Overrides, Plan, PlanRequest
from backends.presets import Preset
from tests.support import gguf_files
from tests.support.gguf_plans import (
    LAPTOP,
    MACHINES,
    MAKERS,
    SIX_GB,
    TWENTY_FOUR_GB,
    case_of,
    made,
)
from tests.support.machines import GIB, gpu, machine


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelInfo]:
    folder = tmp_path_factory.mktemp("gguf")
    return {name: identify(make(folder / name)) for name, make in MAKERS.items()}


@pytest.mark.parametrize(
    ("name", "where", "preset", "verdict", "gpu_layers", "mode"),
    [
        ("llava", "laptop", "auto", "fits", 0, None),
        ("llava", "laptop", "cpu", "fits", 0, None),
        ("llava", "laptop", "low", "fits", 0, None),
        ("llava", "laptop", "high", "no", 0, None),
        ("llava", "6 GB", "auto", "fits", 29, "compute"),
        ("llava", "6 GB", "low", "fits", 29, "compute"),
        ("llava", "6 GB", "mid", "fits", 29, "compute"),
        ("llava", "6 GB", "high", "no", 32, None),
        ("llava", "6 GB", "cpu", "fits", 0, None),
        ("llava", "24 GB", "auto", "fits", 32, None),
        ("llava", "24 GB", "high", "fits", 32, None),
        ("qwen", "laptop", "cpu", "slow", 0, None),
        ("qwen", "6 GB", "auto", "fits", 11, "compute"),
        ("qwen", "24 GB", "auto", "fits", 28, None),
        ("qwen", "2 x 8 GB", "high", "fits", 28, None),
        ("gemma", "laptop", "auto", "fits", 0, None),
        ("gemma", "6 GB", "high", "fits", 34, None),
        ("mixtral", "laptop", "cpu", "no", 0, None),
        ("mixtral", "24 GB", "auto", "fits", 28, "compute"),
        ("mixtral", "24 GB", "high", "no", 32, None),
    ],
)
def test_what_comes_out(
    found: dict[str, ModelInfo],
    *,
    name: str,
    where: str,
    preset: str,
    verdict: str,
    gpu_layers: int,
    mode: str | None,
) -> None:
    result = made(found[name], MACHINES[where], preset)

    assert (result.engine, result.format, result.precision) == ("llamacpp", "gguf", found[name].dtype)
    assert (result.verdict, result.gpu_layers, result.cpu_layers_mode) == (verdict, gpu_layers, mode)
    assert result.offload_dir is None
    assert not result.int8_fp32_cpu_offload


@pytest.mark.parametrize("where", MACHINES)
@pytest.mark.parametrize("preset", [preset.value for preset in Preset])
@pytest.mark.parametrize("name", MAKERS)
def test_no_plan_that_fits_is_over_a_budget(
    found: dict[str, ModelInfo], name: str, preset: str, where: str
) -> None:
    result = made(found[name], MACHINES[where], preset)

    over = [one for one in result.devices if one.total_bytes > one.budget_bytes]
    assert bool(over) == (result.verdict == "no") or preset == "high"
    assert dict(result.device_map).keys() == {module.name for module in found[name].modules}


class TestWords:
    def said(self, plan_: Plan) -> str:
        return "\n".join(map(str, plan_.reasons))

    def test_the_files_precision_stays(self, found: dict[str, ModelInfo]) -> None:
        assert "as the file holds them (Q4_K_M)" in self.said(made(found["llava"], LAPTOP))

    def test_a_model_without_an_mmproj(self, found: dict[str, ModelInfo]) -> None:
        assert "No mmproj file" in self.said(made(found["mixtral"], TWENTY_FOUR_GB))
        assert "mmproj" not in self.said(made(found["llava"], LAPTOP))

    def test_a_file_without_a_chat_template(self, found: dict[str, ModelInfo]) -> None:
        bare = replace(
            found["llava"], gguf=GgufDetails(chat_template=False, mmproj=None, largest_matrix_bytes=1)
        )

        assert "no chat template" in self.said(made(bare, LAPTOP))
        assert "chat template" not in self.said(made(found["llava"], LAPTOP))

    def test_where_the_rest_computes(self, found: dict[str, ModelInfo]) -> None:
        assert "29 of 32 layers fit" in self.said(made(found["llava"], SIX_GB))
        assert "compute in RAM" in self.said(made(found["llava"], SIX_GB))

    def test_why_it_does_not_fit_and_what_would(self, found: dict[str, ModelInfo]) -> None:
        result = made(found["llava"], SIX_GB, "high")

        assert "cuda:0 (NVIDIA GeForce RTX 2060) would have to hold 5.6 GB" in self.said(result)
        assert any(other.engine == "llamacpp" and other.verdict == "fits" for other in result.alternatives)

    def test_in_json(self, found: dict[str, ModelInfo]) -> None:
        document = plan_to_json(made(found["llava"], SIX_GB))

        assert document["engine"] == "llamacpp"
        assert (document["model"]["format"], document["model"]["family"]) == ("gguf", "llama")
        assert document["precision"] == "q4_k_m"
        assert {"id": "cuda:0", "name": "NVIDIA GeForce RTX 2060"}.items() <= document["devices"][0].items()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        pytest.param(
            {"precision": "q8_0"}, "the precision it was made with, and this one is Q4_K_M", id="another type"
        ),
        pytest.param({"precision": "nf4"}, "the precision it was made with", id="bitsandbytes"),
        pytest.param({"engine": "transformers"}, "run with llamacpp", id="the other engine"),
        pytest.param({"cpu_layers_mode": "stream"}, "compute there", id="streaming"),
        pytest.param({"device_map": (("blk.0", "cpu"),)}, "whole runs of layers", id="a device map"),
        pytest.param({"offload_dir": "/tmp/x"}, "keeps nothing in an offload folder", id="an offload folder"),
        pytest.param({"gpu_layers": 33}, "has 32 layers", id="more layers than there are"),
        pytest.param({"context_tokens": 5000}, "at most 4,096", id="a context beyond the model's"),
    ],
)
def test_settings_that_a_gguf_file_can_not_take(
    found: dict[str, ModelInfo], overrides: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SettingInvalid, match=sentence):
        made(found["llava"], SIX_GB, "custom", **overrides)


def test_its_own_precision_and_engine_may_be_named(found: dict[str, ModelInfo]) -> None:
    result = made(found["llava"], SIX_GB, "custom", precision="q4_k_m", engine="llamacpp")

    assert result.verdict == "fits"


def test_safetensors_still_run_with_transformers(llava: ModelInfo) -> None:
    assert plan(TWENTY_FOUR_GB, llava, PlanRequest("m")).engine == "transformers"
    with pytest.raises(SettingInvalid, match="be converted for llama"):
        plan(TWENTY_FOUR_GB, llava, PlanRequest("m", overrides=Overrides(engine="llamacpp")))


class TestSpeed:
    def test_a_card_is_faster_than_some_layers_and_those_than_none(self, found: dict[str, ModelInfo]) -> None:
        speeds = [
            made(found["llava"], TWENTY_FOUR_GB, "custom", gpu_layers=layers).expected.tokens_per_s
            for layers in (32, 20, 5, 0)
        ]

        assert speeds == sorted(speeds, reverse=True)

    def test_the_cpu_decodes_at_the_memorys_speed(self, found: dict[str, ModelInfo]) -> None:
        result = made(found["llava"], LAPTOP)
        nominal = LAPTOP.ram.memory_gbps or 0

        read = 40e9 / found["llava"].weights_bytes
        assert nominal == 40
        assert 0.7 * read < result.expected.tokens_per_s < 1.1 * read

    def test_experts_that_are_not_visited_cost_no_time(self, found: dict[str, ModelInfo]) -> None:
        roomy = machine(ram=64)
        dense = 40e9 / found["mixtral"].weights_bytes

        assert made(found["mixtral"], roomy).expected.tokens_per_s > 2 * dense

    def test_a_picture_takes_time_and_more_on_a_cpu(self, found: dict[str, ModelInfo]) -> None:
        on_gpu = made(found["llava"], TWENTY_FOUR_GB).expected.first_token_s
        on_cpu = made(found["llava"], LAPTOP).expected.first_token_s
        without = made(found["llava"], LAPTOP, images=0).expected.first_token_s

        assert on_gpu < without < on_cpu

    @pytest.mark.parametrize(
        ("one", "other", "better"),
        [
            pytest.param((2.0, 10.0), (2.0, 8.0), True, id="a quarter more tokens a second"),
            pytest.param((2.0, 10.0), (2.0, 9.5), False, id="less than a tenth off an answer"),
            pytest.param((90.0, 10.0), (2.0, 8.0), False, id="more tokens a second, and a minute's wait"),
            pytest.param((2.0, 8.0), (90.0, 10.0), True, id="fewer tokens a second without the wait"),
        ],
    )
    def test_groups_of_cards_are_compared_by_the_time_of_an_answer(
        self,
        found: dict[str, ModelInfo],
        one: tuple[float, float],
        other: tuple[float, float],
        better: bool,
    ) -> None:
        judged = in_ram(case_of(found["llava"]))
        first, second = (replace(judged, expected=Expected(1.0, *times)) for times in (one, other))

        assert judged.fits
        assert _better(first, second) is better


def test_what_would_i_need_counts_the_files_bytes(found: dict[str, ModelInfo]) -> None:
    answer = needs(LAPTOP, found["llava"], PlanRequest("m", Preset.HIGH))

    assert answer.card is not None
    assert 6 * GIB <= answer.card.bytes_each <= 8 * GIB
    assert answer.card.precision == "q4_k_m"
    assert answer.change is not None
    assert answer.change.preset is Preset.CPU
    said = " ".join(map(str, answer.sentences))
    assert "The smallest card that holds the whole file is the" in said
    assert "full precision" not in said


def test_windows_counts_its_promise(found: dict[str, ModelInfo]) -> None:
    tight = machine(ram=8, available=6, os="windows", commit=8)

    result = made(found["llava"], tight, "cpu")

    assert result.verdict == "no"
    assert any("page file" in str(reason) for reason in result.reasons)


def test_a_plan_can_be_replayed_for_the_tokens_that_were_there(found: dict[str, ModelInfo]) -> None:
    model = found["llava"]
    result = made(model, SIX_GB)

    same = replay(SIX_GB, model, result, Workload(result.context_tokens, 1, result.image_tokens))
    shorter = replay(SIX_GB, model, result, Workload(512, 1, result.image_tokens))

    assert [one.total_bytes for one in same] == [one.total_bytes for one in result.devices]
    assert shorter[0].kv_cache_bytes == same[0].kv_cache_bytes // 4


def test_eight_full_cards_leave_few_layouts_to_judge(found: dict[str, ModelInfo]) -> None:
    asked = question(
        machine(*(gpu(index, free=2.0) for index in range(8)), ram=64),
        found["llava"],
        PlanRequest("m", Preset.AUTO),
    )

    assert 0 < len(candidates(asked)) <= 4


def test_judging_is_pure(found: dict[str, ModelInfo]) -> None:
    asked = case_of(found["llava"])
    first = candidates(asked)[0].outcome

    assert judge(asked, first.layout) == first


def test_a_layer_without_a_stated_cache_keeps_keys_and_values_of_all_tokens(
    found: dict[str, ModelInfo],
) -> None:
    text = found["llava"].text
    plain = Module("blk.0", ModuleKind.LAYER, 1, 1)
    stated = replace(plain, cache=LayerCache(2 * 32 * 128))
    work = Workload(1000, 0, 0)

    assert gguf_memory.cache_bytes([plain], text, work) == gguf_memory.cache_bytes([stated], text, work)


def test_a_folder_is_planned_like_its_file(tmp_path: Path) -> None:
    file = gguf_files.llava_15_7b(tmp_path)

    assert made(identify(tmp_path), LAPTOP) == made(identify(file), LAPTOP)
