"""What comes out for machines that people have, each by name."""

from __future__ import annotations

from typing import Any

import pytest

from backends.models.types import ModelInfo, ModuleKind
from backends.placement.planner import plan
from backends.placement.types import Credit, Overrides, Plan, PlanRequest
from backends.presets import Preset
from tests.support.machines import GIB, gpu, machine, process, rtx_2060, rtx_2080_ti, rtx_4060


def decide(model: ModelInfo, hardware: Any, preset: str = "auto", **overrides: Any) -> Plan:
    return plan(hardware, model, PlanRequest("m", Preset(preset), Overrides(**overrides)))


def said(found: Plan) -> str:
    return " | ".join(str(reason) for reason in found.reasons)


def layer_devices(found: Plan) -> list[str]:
    return [device for name, device in found.device_map if ".layers." in name]


NO_GPU = machine()
BF16 = ("avx2", "avx512f", "avx512_bf16")


@pytest.mark.parametrize(
    ("hardware", "preset", "verdict", "precision", "gpu_layers", "devices"),
    [
        pytest.param(
            machine(gpu(0)), "auto", "fits", "fp16", 32, {"cuda:0"}, id="24 GB: full precision, one card"
        ),
        pytest.param(machine(gpu(0)), "high", "fits", "fp16", 32, {"cuda:0"}, id="24 GB, High"),
        pytest.param(machine(gpu(0)), "mid", "fits", "int8", 32, {"cuda:0"}, id="24 GB, Balanced"),
        pytest.param(machine(gpu(0)), "low", "fits", "nf4", 32, {"cuda:0"}, id="24 GB, Low"),
        pytest.param(
            machine(rtx_4060()), "auto", "fits", "nf4", 32, {"cuda:0"}, id="8 GB: 4-bit reads along"
        ),
        pytest.param(
            machine(rtx_4060()), "low", "fits", "nf4", 32, {"cuda:0"}, id="8 GB, Low: no layer left behind"
        ),
        pytest.param(machine(rtx_4060()), "high", "no", "fp16", 32, {"cuda:0"}, id="8 GB, High: says no"),
        pytest.param(
            machine(rtx_2080_ti(0), rtx_2080_ti(1)),
            "auto",
            "fits",
            "fp16",
            32,
            {"cuda:0", "cuda:1"},
            id="two 11 GB cards hold it together",
        ),
        pytest.param(
            machine(rtx_2080_ti(0), rtx_2080_ti(1)),
            "mid",
            "fits",
            "int8",
            32,
            {"cuda:0"},
            id="8-bit needs one of the two",
        ),
        pytest.param(
            machine(ram=8, available=5), "auto", "slow", "bf16", 0, {"cpu", "disk"}, id="8 GB RAM: disk"
        ),
        pytest.param(machine(ram=8, available=5), "high", "no", "fp32", 0, {"cpu"}, id="8 GB RAM, High: no"),
        pytest.param(
            machine(ram=8, available=5), "mid", "no", "bf16", 0, {"cpu"}, id="8 GB RAM, Balanced: no"
        ),
        pytest.param(machine(ram=64), "cpu", "slow", "fp32", 0, {"cpu"}, id="CPU without bf16: fp32"),
        pytest.param(machine(ram=32), "cpu", "slow", "bf16", 0, {"cpu"}, id="fp32 does not fit: bf16, slow"),
        pytest.param(
            machine(ram=64, features=BF16), "cpu", "slow", "bf16", 0, {"cpu"}, id="CPU with bf16: bf16"
        ),
        pytest.param(
            machine(gpu(0), ram=64), "cpu", "slow", "fp32", 0, {"cpu"}, id="CPU only leaves the card alone"
        ),
    ],
)
def test_llava_15_7b(  # noqa: PLR0917 - the columns of the table above
    llava: ModelInfo,
    hardware: Any,
    preset: str,
    verdict: str,
    precision: str,
    gpu_layers: int,
    devices: set[str],
) -> None:
    found = decide(llava, hardware, preset)

    assert (found.verdict, found.precision, found.gpu_layers) == (verdict, precision, gpu_layers)
    assert {device for _, device in found.device_map} == devices


def test_low_runs_7b_on_6_gb_and_16_gb_of_ram(llava: ModelInfo) -> None:
    found = decide(llava, machine(rtx_2060(), ram=16), "low")

    assert found.verdict in ("fits", "slow")
    assert found.precision == "nf4"
    assert 20 <= found.gpu_layers < 32
    assert found.cpu_layers_mode == "compute"
    assert found.int8_fp32_cpu_offload
    assert found.compute_dtype == "float16"
    assert "sent to the GPU" in said(found)
    assert "not quantized" in said(found)


def test_a_taken_gpu_0_is_not_used_first_and_its_user_is_named(llava: ModelInfo) -> None:
    taken = gpu(0, "NVIDIA GeForce RTX 4090", 24, 3.5, processes=(process(77, "ollama"),))

    found = decide(llava, machine(taken, gpu(1, "NVIDIA GeForce RTX 4090")), "high")

    assert found.visible_gpus == (1,)
    assert {device for _, device in found.device_map} == {"cuda:1"}
    assert "ollama (process 77) holds 20.0 GB" in said(found)


def test_the_driver_that_names_nobody_is_quoted_as_such(llava: ModelInfo) -> None:
    found = decide(llava, machine(gpu(0, free=3.5), gpu(1)))

    assert found.visible_gpus == (1,)
    assert "the driver does not say which" in said(found)


def test_four_cards_one_computing_for_somebody(llava: ModelInfo) -> None:
    cards = (gpu(0, utilization=97), gpu(1), gpu(2), gpu(3))

    assert decide(llava, machine(*cards), "high").visible_gpus == (1,)


def test_our_own_load_does_not_make_a_card_busy(llava: ModelInfo) -> None:
    ours = gpu(0, free=8, utilization=90, processes=(process(5, "python", 15.6, ours=True),))
    credit = Credit(gpu_bytes=((0, int(15.6 * GIB)),))

    found = plan(machine(ours), llava, PlanRequest("m", Preset.HIGH), credit=credit)

    assert found.verdict == "fits"
    assert "is busy" not in said(found)


def test_the_displays_card_is_spared(llava: ModelInfo) -> None:
    assert decide(llava, machine(gpu(0, display=True), gpu(1, free=20)), "high").visible_gpus == (1,)


def test_cards_2_and_3_of_8(models: dict[str, ModelInfo]) -> None:
    cards = [rtx_2080_ti(index) for index in range(8)]

    found = decide(models["text-6b"], machine(*cards, ram=128), gpus=(2, 3))

    assert found.visible_gpus == (2, 3)
    layers = layer_devices(found)
    assert abs(layers.count("cuda:2") - layers.count("cuda:3")) <= 1
    placed = dict(found.device_map)
    assert (placed["model.embed_tokens"], placed["lm_head"]) == ("cuda:2", "cuda:3")


def test_nvlink_peers_share_before_strangers(models: dict[str, ModelInfo]) -> None:
    cards = (
        rtx_2080_ti(0, nvlink_peers=(3,)),
        rtx_2080_ti(1),
        rtx_2080_ti(2),
        rtx_2080_ti(3, nvlink_peers=(0,)),
    )

    assert decide(models["text-6b"], machine(*cards), "high").visible_gpus == (0, 3)


def test_balanced_on_a_small_windows_card_maps_int8_with_the_offload_flag(llava: ModelInfo) -> None:
    card = gpu(
        0, "NVIDIA GeForce GTX 1650", 4, 3.2, compute_capability=(7, 5), memory_gbps=128.0, tflops_bf16=6.0
    )

    found = decide(llava, machine(card, ram=32, os="windows", commit=40), "mid")

    assert (found.verdict, found.precision) == ("slow", "int8")
    assert found.int8_fp32_cpu_offload
    assert set(layer_devices(found)) == {"cuda:0", "cpu"}


def test_windows_commit_limit_is_named_with_the_page_file_to_set(llava: ModelInfo) -> None:
    found = decide(llava, machine(gpu(0), ram=16, os="windows", commit=16), "high")

    assert found.verdict == "no"
    assert "Set the page file to" in said(found)


@pytest.mark.parametrize(
    ("hardware", "precision", "why"),
    [
        pytest.param(machine(ram=8), "fp32", "so small", id="no GPU"),
        pytest.param(machine(ram=8, features=BF16), "fp32", "so small", id="no GPU, CPU with bf16"),
        pytest.param(machine(gpu(0)), "fp16", "half precision", id="with a GPU"),
    ],
)
def test_the_starter_runs_everywhere(starter: ModelInfo, hardware: Any, precision: str, why: str) -> None:
    found = decide(starter, hardware)

    assert (found.verdict, found.precision) == ("fits", precision)
    assert why in said(found)
    assert found.expected.tokens_per_s > 50
    assert (found.context_tokens, found.image_tokens) == (1024, 64)


@pytest.mark.parametrize("preset", ["mid", "low"])
def test_presets_for_gpus_overflow_to_the_cpu_where_there_is_none(starter: ModelInfo, preset: str) -> None:
    found = decide(starter, NO_GPU, preset)

    assert found.verdict == "fits"
    assert "meant for a GPU" in said(found)
    assert found.visible_gpus == ()


def test_a_no_says_what_is_missing_and_what_would_run(llava: ModelInfo) -> None:
    found = decide(llava, machine(rtx_4060()), "high")

    needed = "cuda:0 (NVIDIA GeForce RTX 4060) would have to hold 14.9 GB and 7.3 GB of it can be used"
    assert needed in said(found)
    assert "4-bit (NF4) would run instead" in said(found)
    assert any(other.verdict == "fits" and other.precision == "nf4" for other in found.alternatives)


def test_a_preset_without_gpus_says_what_would_run_on_the_gpu(llava: ModelInfo) -> None:
    hardware = machine(gpu(0, free=23), ram=16, available=4, disk=5)

    found = decide(llava, hardware, "cpu")

    assert found.verdict == "no"
    assert "Left to Snug, fp16 would run instead: cuda:0 (NVIDIA GeForce RTX 3090) would hold" in said(found)
    best = found.alternatives[0]
    recommended = decide(llava, hardware)
    assert (best.verdict, best.tokens_per_s) == ("fits", recommended.expected.tokens_per_s)


def test_what_would_run_keeps_to_the_gpus_that_were_set(llava: ModelInfo) -> None:
    """How the model is loaded is left to Snug; whose card may be used is not."""
    cards = machine(gpu(0), rtx_2060(1), ram=64)

    found = decide(llava, cards, "high", gpus=(1,))

    assert found.verdict == "no"
    assert "Left to Snug, 4-bit (NF4) would run instead" in said(found)
    assert "RTX 3090" not in said(found)


def test_a_card_that_holds_nothing_does_not_keep_the_disk_from_helping(llava: ModelInfo) -> None:
    found = decide(llava, machine(gpu(0, free=0.5), ram=8, available=5))

    assert found.verdict == "slow"
    assert {device for _, device in found.device_map} == {"cpu", "disk"}
    assert "does not hold enough" in said(found)


def test_alternatives_say_why_they_were_not_taken(llava: ModelInfo) -> None:
    found = decide(llava, machine(gpu(0)))

    assert found.alternatives
    assert {other.precision for other in found.alternatives} >= {"int8", "nf4"}
    assert all(str(other.why_not) for other in found.alternatives)
    assert any("loses quality" in str(other.why_not) for other in found.alternatives)


def test_old_cards_compute_in_fp16(models: dict[str, ModelInfo]) -> None:
    found = decide(models["llava-1.6-7b"], machine(rtx_2080_ti(0), rtx_2080_ti(1)), "high")

    assert (found.precision, found.compute_dtype) == ("fp16", "float16")


def test_pictures_of_dynamic_families_are_scaled_to_a_sensible_size(models: dict[str, ModelInfo]) -> None:
    found = decide(models["qwen2.5-vl-7b"], machine(gpu(0)))

    assert found.image_tokens == 1282
    assert "scaled to 1,282 tokens" in said(found)
    assert found.context_tokens >= 1282 + 1024


def test_anyres_pictures_fit_the_context(models: dict[str, ModelInfo]) -> None:
    found = decide(models["llava-1.6-7b"], machine(gpu(0)))

    assert (found.image_tokens, found.context_tokens) == (2928, 4096)


def test_a_text_model_keeps_no_room_for_pictures(models: dict[str, ModelInfo]) -> None:
    found = decide(models["text-6b"], machine(gpu(0)))

    assert (found.images, found.image_tokens) == (0, 0)
    assert "reads text only" in said(found)


def test_assumed_figures_are_named(llava: ModelInfo) -> None:
    found = decide(llava, machine(gpu(0), assumed=("gpus[0].memory_gbps", "ram.memory_gbps")))

    assert "Assumed, not measured: GPU memory speed, RAM speed." in said(found)


def test_the_offload_folder_is_below_the_root_and_carries_the_models_name(llava: ModelInfo) -> None:
    request = PlanRequest("m")

    here = plan(machine(ram=8, available=5), llava, request, offload_root="/data/off load")
    windows = plan(machine(ram=8, available=5, path="D:\\Snug"), llava, request)

    assert here.offload_dir == "/data/off load/llava-1.5-7b"
    assert windows.offload_dir == "D:\\Snug\\offload\\llava-1.5-7b"
    assert here.disk_needed_bytes == 0, "LLaVA's weights are read from its own files"


def test_headers_only_is_said(llava: ModelInfo) -> None:
    assert "enough to plan, not to load" in said(decide(llava, NO_GPU))


def test_vision_and_embeddings_come_first_and_the_head_last(llava: ModelInfo) -> None:
    found = dict(decide(llava, machine(rtx_2080_ti(0), rtx_2080_ti(1)), "high").device_map)

    assert found["model.vision_tower"] == found["model.multi_modal_projector"] == "cuda:0"
    assert found["model.language_model.embed_tokens"] == "cuda:0"
    assert found["model.language_model.norm"] == found["lm_head"] == "cuda:1"
    assert {module.kind for module in llava.modules} >= {ModuleKind.VISION, ModuleKind.HEAD}


@pytest.mark.parametrize(
    ("case", "settings", "says", "never"),
    [
        (
            "no layer on the GPU",
            {"gpu_layers": 0},
            "on the CPU, as you set it",
            "does not hold enough",
        ),
        (
            "all on the CPU",
            {"device_map": (("", "cpu"),)},
            "on the CPU, as you set it",
            "hold enough",
        ),
        ("a few layers", {"gpu_layers": 3}, "3 of 32 layers are on cuda:0 (NVIDIA", "layers fit"),
        ("no pictures", {"images": 0}, "text and the answer, no pictures", "reads text only"),
        (
            "a layer on the disk",
            {"device_map": (("", "cpu"), ("model.language_model.layers.31", "disk"))},
            "As you set it, 386 MB are read from the disk",
            "memory is full",
        ),
        (
            "over two cards",
            {"device_map": (("", "cuda:0"), ("lm_head", "cuda:1"))},
            "Set by hand: Device map",
            "One GPU is not enough",
        ),
    ],
)
def test_what_a_person_set_is_said_and_no_other_reason_invented(
    llava: ModelInfo, case: str, settings: dict[str, Any], says: str, never: str
) -> None:
    found = decide(llava, machine(gpu(0), gpu(1), ram=64), **settings)

    assert says in said(found), case
    assert never not in said(found)


def test_a_busy_card_without_figures_names_who_uses_it(llava: ModelInfo) -> None:
    """Windows' driver lists processes without their bytes: none of them is blamed for all of it."""
    busy = gpu(0, free=2, processes=(process(77, "blender.exe", 0), process(78, "dwm.exe", 0)))

    found = decide(llava, machine(busy, gpu(1)))

    assert "22.0 GB of it are in use, by blender.exe (process 77) among others." in said(found)
    assert "Busy GPUs come last." in said(found)


def test_a_busy_card_that_is_the_only_one_does_not_come_last(llava: ModelInfo) -> None:
    found = decide(llava, machine(gpu(0, free=8, processes=(process(77, "blender", 15),))))

    assert "is busy: blender (process 77) holds 15.0 GB" in said(found)
    assert "last" not in said(found)


def test_no_two_alternatives_read_the_same(models: dict[str, ModelInfo]) -> None:
    for model in models.values():
        for cards in ((), (rtx_2060(0),), (rtx_4060(0), gpu(1, free=1))):
            for preset in Preset:
                others = decide(model, machine(*cards), preset.value).alternatives
                assert len(set(others)) == len(others)
