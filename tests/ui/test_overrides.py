"""`--set key=value`: what it takes, and what it says of everything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backends.errors import SettingInvalid
from backends.placement.types import Overrides, PlanRequest
from backends.presets import Preset
from ui.overrides import command_line, parse_overrides, parse_size, to_settings


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("6GiB", 6 * 2**30),
        ("6 gib", 6 * 2**30),
        ("1.5G", 3 * 2**29),
        ("500MB", 500_000_000),
        ("500MiB", 500 * 2**20),
        ("123", 123),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "GiB", "-1GiB", "6 parsecs", "1,5GiB", "nan", "9" * 400])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="^" + text.replace(".", r"\.")):
        parse_size(text)


@pytest.mark.parametrize(
    ("settings", "overrides"),
    [
        ([], Overrides()),
        (["gpus=2,3"], Overrides(gpus=(2, 3))),
        (["gpu_layers=0"], Overrides(gpu_layers=0)),
        (
            ["precision=nf4", "context=2048", "images=2"],
            Overrides(precision="nf4", context_tokens=2048, images=2),
        ),
        (["image_tokens=640"], Overrides(image_tokens=640)),
        (["engine=transformers"], Overrides(engine="transformers")),
        (["cpu_layers_mode=compute"], Overrides(cpu_layers_mode="compute")),
        (["offload_dir=/tmp/a=b"], Overrides(offload_dir="/tmp/a=b")),
        (["base=/models/vicuna 7b"], Overrides(base="/models/vicuna 7b")),
        (
            ["max_memory.cuda:0=6GiB", "max_memory.cpu=8GiB"],
            Overrides(max_memory=(("cuda:0", 6 * 2**30), ("cpu", 8 * 2**30))),
        ),
        (["precision=int8", "precision=bf16"], Overrides(precision="bf16")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_settings(settings: list[str], overrides: Overrides) -> None:
    assert parse_overrides(settings) == overrides


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("gpus", "written key=value"),
        ("base=", "written key=value"),
        ("gpus=", "written key=value"),
        ("gpus=a", "GPU numbers"),
        ("gpus=1,1", "GPU numbers"),
        ("gpus=,", "GPU numbers"),
        ("gpu_layers=-1", "0 or more"),
        ("gpu_layers=many", "whole number"),
        ("context=0", "number of tokens"),
        ("precision=nf 4", "bf16"),
        ("engine=ollama", "transformers, llamacpp or remote"),
        ("max_memory.gpu=6GiB", "A device is cuda:0"),
        ("max_memory.cuda:0=lots", "a size"),
        ("device_map=auto", "not a device but a strategy"),
        ('device_map="balanced"', "not a device but a strategy"),
        ("precison=nf4", "did you mean precision"),
        ("colour=red", "known settings are"),
        ("device_map=missing.json", "can't be read"),
    ],
)
def test_what_can_not_be_set(setting: str, says: str) -> None:
    with pytest.raises(SettingInvalid, match=says):
        parse_overrides([setting])


def test_a_limit_that_is_set_twice_is_not_guessed_at() -> None:
    with pytest.raises(SettingInvalid, match="limit is set twice"):
        parse_overrides(["max_memory.cuda:0=6GiB", "max_memory.cpu=8GiB", "max_memory.cuda:0=4GiB"])


def test_a_map_file_named_like_a_strategy_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("auto").write_text('{"": "cpu"}', encoding="utf-8")
    assert parse_overrides(["device_map=auto"]).device_map == (("", "cpu"),)


def test_a_module_that_stands_twice_in_a_file_reaches_the_planner(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text('{"lm_head": "cpu", "lm_head": 0}', encoding="utf-8")
    assert parse_overrides([f"device_map={path}"]).device_map == (("lm_head", "cpu"), ("lm_head", "cuda:0"))


def test_a_device_map_file(tmp_path: Path) -> None:
    path = tmp_path / "karte 图.json"
    path.write_text(json.dumps({"model.vision_tower": 0, "lm_head": "cpu", "x": "cuda"}), encoding="utf-8")
    expected = (("model.vision_tower", "cuda:0"), ("lm_head", "cpu"), ("x", "cuda:0"))
    assert parse_overrides([f"device_map={path}"]).device_map == expected


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", r"not JSON \(line 1, column 2"),
        ("[]", "object"),
        ("{}", "object"),
        pytest.param("[" * 100_000, "not JSON", id="nested without end"),
        pytest.param('{"": ' + "9" * 5000 + "}", "not JSON", id="a number of 5,000 digits"),
    ],
)
def test_a_bad_device_map_file(content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SettingInvalid, match=says):
        parse_overrides([f"device_map={path}"])


def test_a_device_map_saved_by_notepad_is_read(tmp_path: Path) -> None:
    path = tmp_path / "map 图.json"
    path.write_text('{"": "cpu"}', encoding="utf-8-sig")
    assert parse_overrides([f"device_map={path}"]).device_map == (("", "cpu"),)


@pytest.mark.parametrize("value", ["a\0b", "nowhere/map.json", "."])
def test_no_device_map_file(value: str) -> None:
    with pytest.raises(SettingInvalid, match="file"):
        parse_overrides([f"device_map={value}"])


def test_an_endless_value_is_not_repeated_in_full() -> None:
    with pytest.raises(SettingInvalid) as caught:
        parse_overrides(["gpus=" + "9" * 5000])
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "overrides",
    [
        Overrides(),
        Overrides(gpus=(2, 3), gpu_layers=0, precision="nf4", context_tokens=2048, images=0),
        Overrides(image_tokens=640, cpu_layers_mode="stream", offload_dir="/a b/c=d"),
        Overrides(max_memory=(("cuda:0", 6 * 2**30), ("cuda:1", 700 * 2**20), ("cpu", 12_345), ("disk", 0))),
    ],
    ids=["nothing", "numbers", "words", "limits"],
)
def test_settings_are_written_as_they_are_read(overrides: Overrides) -> None:
    assert parse_overrides(to_settings(overrides)) == overrides


def test_a_map_is_named_as_a_file() -> None:
    assert to_settings(Overrides(device_map=(("", "cpu"),))) == ("device_map=device_map.json",)


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        (PlanRequest("starter"), "python launch.py plan starter --preset auto"),
        (
            PlanRequest(r"D:\my models\llava", Preset.LOW, Overrides(gpus=(0, 1), context_tokens=2048)),
            r'python launch.py plan "D:\my models\llava" --preset low --set gpus=0,1 --set context=2048',
        ),
        (
            PlanRequest("模型", Preset.CUSTOM, Overrides(offload_dir='a "b" & c')),
            r'python launch.py plan 模型 --preset custom --set "offload_dir=a \"b\" & c"',
        ),
    ],
    ids=["nothing set", "a Windows path", "what a shell would take apart"],
)
def test_the_command_that_asks_for_the_same(request_: PlanRequest, line: str) -> None:
    assert command_line(request_) == line
