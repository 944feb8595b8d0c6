"""The five scenarios of the field, each by the pure planner and by `launch.py plan`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.conversion.offer import offers
from backends.hardware.describe import read_file
from backends.models.identify import identify
from backends.models.types import ModelInfo, ModuleKind
from backends.placement.planner import plan
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.presets import Preset
from backends.settings import Settings
from backends.text import human_bytes
from tests.support import checkpoints
from ui.commands import plan as command
from ui.i18n import Translator
from ui.overrides import parse_overrides

HARDWARE = Path(__file__).parents[2] / "hardware"
GIB, MIB = 1024**3, 1024**2
Ask = Callable[..., tuple[Plan, dict[str, Any]]]


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("field")
    found = {
        "llava": checkpoints.llava_15_7b(folder / "llava-1.5-7b-hf"),
        "cogvlm": checkpoints.cogvlm_17b(folder / "cogvlm-chat-hf"),
        "chatglm3": checkpoints.chatglm3_6b(folder / "chatglm3-6b"),
    }
    return found | {"lora": checkpoints.lora(folder / "my LoRA", "llava-hf/llava-1.5-7b-hf")}


@pytest.fixture
def ask(field: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Plan twice, by the pure function and by the command, and make sure that they say the same."""

    def asked(model: str, hardware: str, preset: str, *settings: str) -> tuple[Plan, dict[str, Any]]:
        file = HARDWARE / f"{hardware}.json"
        request = PlanRequest(str(field[model]), Preset(preset), parse_overrides(list(settings)))
        found = identify(field[model])
        made = plan(read_file(file), found, request, offers=offers(found, tmp_path / "converted"))
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        words = [str(field[model]), "--hardware", str(file), "--preset", preset, "--json"]
        for setting in settings:
            words += ["--set", setting]
        capsys.readouterr()
        assert command.run(parser.parse_args(words), _settings(tmp_path), Translator("en")) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["verdict"] == made.verdict
        assert said["device_map"] == dict(made.device_map)
        assert said["reasons"] == [str(reason) for reason in made.reasons]
        assert [entry["total_bytes"] for entry in said["devices"]] == [
            share.total_bytes for share in made.devices
        ]
        return made, said

    return asked


def _settings(home: Path) -> Settings:
    return Settings(home, (home / "models",), home / "starter", home / "examples")


def share(made: Plan, device: str) -> Any:
    return next(found for found in made.devices if found.device == device)


def layer_devices(made: Plan) -> list[str]:
    return [device for name, device in made.device_map if ".layers." in name]


def full_width(model: ModelInfo, made: Plan, device: str, width: int = 2) -> int:
    """Bytes of what lies on `device`, not quantized."""
    placed = dict(made.device_map)
    return sum(module.parameters * width for module in model.modules if placed[module.name] == device)


def test_magicquill_on_a_small_windows_card(ask: Ask, field: dict[str, Path]) -> None:
    """Balanced would need more RAM than there is: no, with figures and page file. Low VRAM fits."""
    llava = identify(field["llava"])

    balanced, said = ask("llava", "magicquill_windows_4gb", "mid")

    # A valid mixed map with the flag, so that transformers never refuses modules on the CPU.
    assert (balanced.verdict, balanced.precision, balanced.compute_dtype) == ("no", "int8", "float16")
    assert balanced.int8_fp32_cpu_offload
    on_gpu = balanced.gpu_layers
    assert 3 <= on_gpu <= 6
    assert layer_devices(balanced) == ["cuda:0"] * on_gpu + ["cpu"] * (32 - on_gpu)
    assert [name for name, _ in balanced.device_map] == [module.name for module in llava.modules]
    # int8 lives on the GPU only: the layers in RAM are counted in the fp16 in which they are loaded.
    assert share(balanced, "cpu").weights_bytes == full_width(llava, balanced, "cpu")
    assert share(balanced, "cpu").weights_bytes > (32 - on_gpu) * 404 * 10**6
    assert share(balanced, "cuda:0").total_bytes <= share(balanced, "cuda:0").budget_bytes <= int(2.9 * GIB)
    text = " ".join(said["reasons"])
    ram = share(balanced, "cpu")
    assert f"The memory (RAM) would have to hold {human_bytes(ram.total_bytes)} and 10.7 GB of it" in text
    # 20 GiB can be promised, 4 GiB are in use, 8 % are left to others: the rest is the page file to set.
    reserved = ram.total_bytes + share(balanced, "cuda:0").total_bytes
    missing = reserved + 4 * GIB + int(16 * GIB * 0.08) - 16 * GIB
    assert f"Windows would have to reserve {human_bytes(reserved)} and can reserve 14.7 GB." in text
    assert f"Set the page file to {-(-missing // GIB)}.0 GB or more." in text
    # And RAM is short of its own accord: what this takes besides is said, too.
    assert "it does not stand in for RAM. With 24.0 GB of RAM this would run" in text
    assert "would run instead" in text
    assert {(other.precision, other.verdict) for other in balanced.alternatives} >= {("nf4", "slow")}

    low, _ = ask("llava", "magicquill_windows_4gb", "low")

    assert (low.verdict, low.precision) == ("slow", "nf4")
    assert low.gpu_layers >= on_gpu
    assert low.int8_fp32_cpu_offload
    assert all(found.total_bytes <= found.budget_bytes for found in low.devices)
    assert low.load_peak_ram_bytes <= share(low, "cpu").budget_bytes


def test_balanced_fits_the_small_windows_card_with_more_memory(field: dict[str, Path]) -> None:
    """RAM and page file are both needed, and neither stands in for the other."""
    hardware = read_file(HARDWARE / "magicquill_windows_4gb.json")
    llava = identify(field["llava"])

    def verdict(extra_ram: float, page_file: float) -> str:
        total = hardware.ram.total_bytes + int(extra_ram * GIB)
        ram = replace(
            hardware.ram,
            total_bytes=total,
            available_bytes=hardware.ram.available_bytes + int(extra_ram * GIB),
            commit_limit_bytes=total + int(page_file * GIB),
        )
        return plan(replace(hardware, ram=ram), llava, PlanRequest("m", Preset.MID)).verdict

    assert verdict(3, 4) == "slow"
    assert verdict(3, 2) == "no"  # RAM is enough, and Windows may not promise it
    assert verdict(0, 64) == "no"  # a page file is no RAM


def test_cogvlm_with_gpu_0_taken(ask: Ask, field: dict[str, Path]) -> None:
    high, said = ask("cogvlm", "cogvlm_two_24gb_20gb_held", "high")

    assert said["model"]["family"] == "cogvlm"
    assert said["model"]["parameters"] == 17_639_685_376
    assert (high.image_tokens, high.context_tokens) == (1227, 2048)
    # 32.9 GiB of weights can't be on 23 + 3 GiB: a no that says what is missing where, GPU 1 first.
    assert (high.verdict, high.precision) == ("no", "bf16")
    assert next(iter(high.device_map))[1] == "cuda:1"
    assert sum(found.weights_bytes for found in high.devices) == 2 * 17_639_685_376
    short = [reason for reason in said["reasons"] if "too little" in reason]
    assert [reason[:6] for reason in short] == ["cuda:1", "cuda:0"]
    text = " ".join(said["reasons"])
    assert "GPU 0 (NVIDIA GeForce RTX 3090) is busy: python train.py (process 24680) holds 20.0 GB" in text
    assert "8-bit (LLM.int8) would run instead: cuda:1 (NVIDIA GeForce RTX 3090) would hold 2" in text
    offers = {other.precision: other for other in high.alternatives if other.verdict == "fits"}
    assert set(offers) == {"int8", "nf4"}

    for preset, precision, least in (("mid", "int8", 20), ("low", "nf4", 14)):
        made, _ = ask("cogvlm", "cogvlm_two_24gb_20gb_held", preset)
        assert (made.verdict, made.precision, made.visible_gpus) == ("fits", precision, (1,))
        card = share(made, "cuda:1")
        assert least * GIB < card.total_bytes <= card.budget_bytes
        used = f"{human_bytes(card.total_bytes)} of {human_bytes(card.budget_bytes)}"
        why = str(offers[precision].why_not)
        assert f"cuda:1 (NVIDIA GeForce RTX 3090) would hold {used}, at about" in why
        assert offers[precision].tokens_per_s == made.expected.tokens_per_s > 5


def test_chatglm3_on_cards_2_and_3_of_8(ask: Ask) -> None:
    made, said = ask("chatglm3", "eight_11gb", "auto", "gpus=2,3")

    assert (said["model"]["family"], said["model"]["parameters"]) == ("chatglm", 6_243_584_000)
    assert (made.verdict, made.precision, made.visible_gpus) == ("fits", "fp16", (2, 3))
    assert {entry["id"] for entry in said["devices"]} == {"cuda:2", "cuda:3", "cpu"}
    layers = layer_devices(made)
    assert layers == sorted(layers)
    assert abs(layers.count("cuda:2") - layers.count("cuda:3")) <= 1
    assert said["device_map"]["model.embed_tokens"] == layers[0] == "cuda:2"
    assert said["device_map"]["model.norm"] == said["device_map"]["lm_head"] == layers[-1] == "cuda:3"
    first, second = share(made, "cuda:2").total_bytes, share(made, "cuda:3").total_bytes
    assert abs(first - second) < 450 * MIB  # a layer


def test_candles_laptop(ask: Ask, field: dict[str, Path]) -> None:
    low, said = ask("llava", "laptop_6gb", "low")

    assert (low.verdict, low.precision, low.cpu_layers_mode) == ("fits", "nf4", "compute")
    most = low.gpu_layers
    assert 26 <= most <= 30
    assert layer_devices(low) == ["cuda:0"] * most + ["cpu"] * (32 - most)
    assert (said["image_tokens"], said["context_tokens"]) == (576, 2048)
    # The cache of 2,048 tokens, picture included, is on the device of its layer.
    per_layer = 2 * 4096 * 2 * 2048
    assert share(low, "cuda:0").kv_cache_bytes == most * per_layer
    assert share(low, "cpu").kv_cache_bytes == (32 - most) * per_layer
    streamed, _ = ask("llava", "laptop_6gb", "low", "cpu_layers_mode=stream")
    compute, stream = low.expected.tokens_per_s, streamed.expected.tokens_per_s
    assert compute > stream > 0
    both = f"compute on the CPU: about {compute:.1f} tokens/s, against {stream:.1f} if they were sent"
    assert both in " ".join(said["reasons"])

    custom, said = ask("llava", "laptop_6gb", "custom", f"gpu_layers={most}", "precision=nf4")
    assert (custom.verdict, custom.gpu_layers, custom.cpu_layers_mode) == ("fits", most, "compute")
    assert custom.device_map == low.device_map
    assert "tokens/s, against" in " ".join(said["reasons"])

    more, said = ask("llava", "laptop_6gb", "custom", f"gpu_layers={most + 1}", "precision=nf4")
    assert (more.verdict, more.gpu_layers) == ("no", most + 1)
    assert any(reason.startswith("cuda:0") and "too little" in reason for reason in said["reasons"])


@pytest.mark.parametrize("mode", ["compute", "stream"])
def test_candles_laptop_in_the_mode_that_was_set(ask: Ask, mode: str) -> None:
    made, _ = ask("llava", "laptop_6gb", "low", f"cpu_layers_mode={mode}")

    assert (made.cpu_layers_mode, made.precision) == (mode, "nf4")
    assert made.verdict != "no"
    assert made.gpu_layers < 32
    assert (share(made, "cuda:0").staging_bytes >= 404 * 10**6) == (mode == "stream")


def test_llava_lora_on_4x3090(ask: Ask, field: dict[str, Path]) -> None:
    made, said = ask("lora", "lora_four_3090", "high")
    model = identify(field["lora"])

    assert model.adapter is not None
    assert (model.adapter.name, model.adapter.rank) == ("my LoRA", 128)
    assert (made.verdict, made.precision, made.visible_gpus) == ("fits", "fp16", (0,))
    assert {device for _, device in made.device_map} == {"cuda:0"}
    # 14.1 GB of weights and 1 GiB of cache; the article's 28 GB are fp32.
    card = share(made, "cuda:0")
    assert card.weights_bytes == 2 * 7_063_427_072
    assert card.kv_cache_bytes == GIB
    assert card.total_bytes < 15 * GIB
    text = " ".join(said["reasons"])
    assert "The LoRA my LoRA (rank 128) is merged into the weights one after the other" in text
    assert "13.2 GB of weights and 1.0 GB of cache. Twice as much (26.3 GB) is needed only in fp32." in text
    # Weights are merged one after the other on their way to the GPU; nobody is asked for a folder.
    assert made.load_peak_ram_bytes < 2 * GIB
    assert said["offload_dir"] is None
    alone = plan(read_file(HARDWARE / "lora_four_3090.json"), identify(field["llava"]), made.request)
    assert alone.devices[0] == card


def test_a_lora_needs_no_more_ram_than_its_model(field: dict[str, Path]) -> None:
    hardware = read_file(HARDWARE / "lora_four_3090.json")
    small = replace(hardware, ram=replace(hardware.ram, total_bytes=16 * GIB, available_bytes=12 * GIB))

    made = plan(small, identify(field["lora"]), PlanRequest("m", Preset.HIGH, Overrides()))

    assert made.verdict == "fits"


def test_layers_of_the_models_of_the_field(field: dict[str, Path]) -> None:
    for name, layers in (("llava", 32), ("cogvlm", 32), ("chatglm3", 28)):
        model = identify(field[name])
        assert sum(module.kind is ModuleKind.LAYER for module in model.modules) == layers
        assert len({module.name for module in model.modules}) == len(model.modules)


def test_the_command_says_what_would_be_needed(
    field: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    hardware = str(HARDWARE / "magicquill_windows_4gb.json")
    words = [str(field["llava"]), "--hardware", hardware, "--preset", "mid", "--json", "--needs"]

    assert command.run(parser.parse_args(words), _settings(tmp_path), Translator("en")) == 0

    found = json.loads(capsys.readouterr().out)["needs"]
    assert not found["runs"]
    assert found["change"]["preset"] in ("mid", "low")
    assert found["card"]["total_bytes"] == 16 * GIB
    assert found["ram_bytes"] <= 16 * GIB
    assert len(found["sentences"]) >= 3
