"""What of the GPU benchmarks needs no GPU: the cards they pretend, their cases, inputs and tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.hardware.types import Cpu, Disk, HardwareSnapshot, Ram
from backends.models.identify import identify
from backends.presets import Preset
from benchmarks import gpu_memory, gpu_models, gpu_speed
from benchmarks.gpu_memory import Found
from tests.support import checkpoints
from tests.support.machines import GIB, gpu, machine

CASE = Found(
    "llava-1.5-7b", 8, "low", "nf4", 32, 32, None, 336, 5_000_000_000, 5_200_000_000, 5_400_000_000,
    out_of_memory=False,
)  # fmt: skip


@pytest.mark.parametrize("script", [gpu_memory, gpu_speed])
def test_without_a_gpu_it_says_so(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    nothing = HardwareSnapshot("linux", (), Ram(GIB, GIB), Cpu("CPU", 2), Disk(str(tmp_path), GIB))
    monkeypatch.setattr(script, "detect", lambda _: nothing)

    assert script.main(["--folder", str(tmp_path)]) == 2
    assert "no NVIDIA GPU" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_smaller_card_has_its_size_and_nobody_else_on_it() -> None:
    real = machine(gpu(0, utilization=90), gpu(1))

    card = gpu_memory.emulated(real, 8).gpus

    assert len(card) == 1
    assert card[0].total_bytes == 8 * GIB
    assert card[0].free_bytes == 8 * GIB - gpu_memory.DESKTOP_BYTES
    assert (card[0].processes, card[0].utilization, card[0].index) == ((), 0, 0)
    assert gpu_memory.usable(card[0], 500) == card[0].free_bytes - 500


def test_every_preset_and_the_automatic_map_run_on_every_card() -> None:
    found = list(gpu_memory.cases((6, 8)))

    assert len(found) == len(set(found)) == 10
    assert found[0] == (6, Preset.LOW)
    assert (8, None) in found


def test_plans_are_made_for_the_emulated_card(tmp_path: Path) -> None:
    model = identify(checkpoints.llava_15_7b(tmp_path / "llava-1.5-7b"))
    small, large = (gpu_memory.emulated(machine(gpu(0), ram=64), gib) for gib in (8, 24))

    tight = gpu_memory.plan_for(model, small, Preset.LOW, tmp_path / "offload")
    roomy = gpu_memory.plan_for(model, large, Preset.HIGH, tmp_path / "offload")

    assert gpu_memory.predicted_bytes(tight) <= small.gpus[0].free_bytes
    assert (roomy.gpu_layers, roomy.context_tokens) == (32, 2048)
    assert gpu_memory.plan_for(model, small, Preset.MID, tmp_path, layers=10).gpu_layers == 10


@pytest.mark.parametrize("mode", ["compute", "stream"])
def test_speed_is_compared_for_the_same_layers(tmp_path: Path, mode: Any) -> None:
    model = identify(checkpoints.llava_15_7b(tmp_path / "llava-1.5-7b", dtype="BF16"))

    found = gpu_speed.plan_for(model, machine(gpu(0), ram=64), 8, mode)

    assert (found.gpu_layers, found.cpu_layers_mode, found.precision) == (24, mode, "bf16")


@pytest.mark.parametrize(
    ("measured", "met"),
    [(5_000_000_000, True), (5_290_000_000, True), (5_400_000_000, False), (4_600_000_000, False)],
)
def test_within_five_per_cent_or_300_mb(measured: int, *, met: bool) -> None:
    assert replace(CASE, measured=measured).met is met


def test_the_memory_table_counts_what_failed_and_what_was_left() -> None:
    auto = replace(CASE, way='device_map="auto"', out_of_memory=True)
    found = [CASE, replace(CASE, left=2), replace(CASE, out_of_memory=True), auto]

    table = {row.measure: row for row in gpu_memory.rows(found, skipped=3)}

    assert table["out of memory"].value == "1 of 3"
    assert table["out of memory"].met is False
    assert table["GPU peak predicted within 5 % or 300 MB"].value == "2 of 2"
    assert table["layers left on the table, at most"].met is False
    assert table['device_map="auto": out of memory'].value == "1 of 1"
    assert table["cases that time did not allow"].value == "3"


def test_the_speed_table_sets_both_modes_beside_each_other() -> None:
    compute = gpu_speed.Found(8, "compute", 12.0, 1.0, 10.0, 1.1)
    stream = gpu_speed.Found(8, "stream", 3.0, 0.5, 9.0, 0.6)

    table = gpu_speed.rows([compute, stream])

    assert [row.met for row in table] == [True, True, False]
    assert "4.0 x" in table[0].value


@pytest.mark.parametrize(
    ("total", "picture_end", "streamed", "ends"),
    [
        pytest.param(900, 592, False, [592, 720, 848, 900], id="a picture, then 128 words at a time"),
        pytest.param(900, 592, True, [592, 900], id="few passes where weights are moved"),
        pytest.param(3100, 2944, False, [1024, 2048, 2944, 3072, 3100], id="a large picture in parts"),
        pytest.param(592, 592, False, [592], id="a picture alone"),
    ],
)
def test_passes_end_where_the_engines_do(
    total: int, picture_end: int, ends: list[int], *, streamed: bool
) -> None:
    assert gpu_models.pieces(total, picture_end, streamed=streamed) == ends


@pytest.mark.parametrize(("side", "most", "patches"), [(336, 1280, 24), (1344, 1280, 70), (20, 1280, 2)])
def test_dynamic_pictures_stay_within_their_tokens(side: int, most: int, patches: int) -> None:
    grid = gpu_models.qwen_grid(side, most)
    assert grid == patches
    assert grid**2 // 4 <= most


@pytest.mark.parametrize("name", gpu_models.MODELS)
def test_a_written_checkpoint_is_one_that_can_be_planned_and_loaded(name: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForImageTextToText

    config = _tiny(gpu_models.config_of(name))
    folder = gpu_models.write_checkpoint(config, gpu_models.KINDS[name].dtype, tmp_path / name)

    info = identify(folder)
    loaded, notes = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)

    assert info.dtype == gpu_models.KINDS[name].dtype
    assert info.layers == 2
    assert not notes["missing_keys"]
    assert not notes["unexpected_keys"]
    assert info.parameters == sum(parameter.numel() for parameter in loaded.parameters())
    assert all(torch.isfinite(parameter).all() for parameter in loaded.parameters())
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"]
    module = info.modules[0].name
    assert loaded.get_submodule(module) is not None


@pytest.mark.parametrize("name", gpu_models.MODELS)
def test_the_runs_work_on_any_device(name: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForImageTextToText

    from benchmarks import gpu_run

    kind = gpu_models.KINDS[name]
    folder = gpu_models.write_checkpoint(_tiny(gpu_models.config_of(name)), kind.dtype, tmp_path / name)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16).eval()

    timed = gpu_run.run(model, kind, None, context=1700, side=336, image_tokens=300, device="cpu")

    assert min(timed.first_s, timed.token_s) > 0
    assert gpu_run.layers_on_gpu(model) == 0


def _tiny(config: Any) -> Any:
    """The same kind of model with small numbers."""
    text, eyes = config.text_config, config.vision_config
    text.num_hidden_layers, text.hidden_size, text.intermediate_size = 2, 64, 96
    text.num_attention_heads, text.num_key_value_heads, text.head_dim = 4, 2, 16
    if "mrope_section" in (text.rope_parameters or {}):
        text.rope_parameters["mrope_section"] = [2, 3, 3]  # together half of a head
    if hasattr(text, "layer_types"):
        text.layer_types = None if text.layer_types is None else text.layer_types[:2]
    if hasattr(eyes, "depth"):
        eyes.depth, eyes.hidden_size, eyes.intermediate_size, eyes.num_heads = 2, 32, 64, 2
        eyes.out_hidden_size = 64
    else:
        eyes.num_hidden_layers, eyes.hidden_size, eyes.intermediate_size = 2, 32, 64
        eyes.num_attention_heads = 2
    return config
