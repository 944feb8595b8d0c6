"""What a preset, a model and a machine leave of settings by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from backends.errors import SettingInvalid
from backends.models.types import ModelInfo, TextGeometry, VisionGeometry
from backends.placement.types import EngineName, Overrides
from backends.presets import Preset
from tests.support import machines
from ui.web import by_hand

MAP = Overrides(device_map=(("", "cuda:0"),))
SPLIT_MAP = Overrides(device_map=(("a", "cuda:0"), ("b", "cpu")))


def model(
    layers: int = 32, context: int = 4096, *, tokens: int | None = 576, dynamic: bool = False
) -> ModelInfo:
    vision = VisionGeometry(24, 1024, 4096, 16, 336, 14, 576, tokens, dynamic=dynamic) if tokens else None
    text = TextGeometry(4096, 11008, layers, 32, 32, 128, 32_000, context)
    return ModelInfo(Path("m"), "m", "llava", "L", "safetensors", "float16", 7, 14, text, vision, (), ())


@pytest.mark.parametrize(
    ("preset", "overrides", "dropped"),
    [
        (Preset.AUTO, Overrides(precision="nf4", gpu_layers=3), ()),
        (Preset.CUSTOM, Overrides(precision="int8", gpus=(1,)), ()),
        (Preset.HIGH, Overrides(precision="nf4"), ("precision",)),
        (Preset.HIGH, Overrides(precision="fp16", context_tokens=2048), ()),
        (Preset.HIGH, Overrides(gpu_layers=12), ("gpu_layers",)),
        (Preset.HIGH, MAP, ()),
        (Preset.HIGH, SPLIT_MAP, ("device_map",)),
        (Preset.MID, Overrides(precision="nf4", gpu_layers=12), ("precision",)),
        (Preset.MID, Overrides(precision="int8"), ()),
        (Preset.LOW, Overrides(precision="int8", gpus=(0,)), ("precision",)),
        (Preset.CPU, Overrides(gpus=(0,), gpu_layers=3, images=2), ("gpus", "gpu_layers")),
        (Preset.CPU, Overrides(gpu_layers=0, precision="fp32"), ()),
        (Preset.CPU, Overrides(cpu_layers_mode="stream"), ("cpu_layers_mode",)),
        (Preset.CPU, SPLIT_MAP, ("device_map",)),
        (Preset.CPU, Overrides(device_map=(("", "cpu"),)), ()),
    ],
)
def test_a_preset_drops_what_it_decides_itself(
    preset: Preset, overrides: Overrides, dropped: tuple[str, ...]
) -> None:
    kept = by_hand.for_preset(overrides, preset)
    assert kept.overrides == by_hand.without(overrides, *dropped)
    assert len(kept.dropped) == len(dropped)
    assert by_hand.preset_for(overrides, preset) is (Preset.CUSTOM if dropped else preset)
    assert by_hand.contradictions(kept.overrides, preset) == ()


def test_the_cpu_preset_keeps_the_limit_of_ram() -> None:
    limits = Overrides(max_memory=(("cuda:0", 1), ("cpu", 2)))
    kept = by_hand.for_preset(limits, Preset.CPU)
    assert kept.overrides.max_memory == (("cpu", 2),)
    assert len(kept.dropped) == 1


@pytest.mark.parametrize(
    ("made_for", "overrides", "dropped"),
    [
        (model(), Overrides(gpu_layers=32, context_tokens=4096, images=2), ()),
        (model(28), Overrides(gpu_layers=30, gpus=(0,)), ("gpu_layers",)),
        (model(context=2048), Overrides(context_tokens=4096), ("context_tokens",)),
        (model(tokens=None), Overrides(images=2, precision="nf4"), ("images",)),
        (model(tokens=None), Overrides(images=0), ()),
        (model(), Overrides(image_tokens=300), ("image_tokens",)),
        (model(tokens=1000, dynamic=True), Overrides(image_tokens=300), ()),
        (model(tokens=200, dynamic=True), Overrides(image_tokens=300), ("image_tokens",)),
        (model(), MAP, ("device_map",)),
    ],
)
def test_another_model_drops_what_it_cannot_have(
    made_for: ModelInfo, overrides: Overrides, dropped: tuple[str, ...]
) -> None:
    kept = by_hand.for_model(overrides, made_for)
    assert kept.overrides == by_hand.without(overrides, *dropped)
    assert len(kept.dropped) == len(dropped)


@pytest.mark.parametrize(
    ("gpus", "overrides", "left"),
    [
        (2, Overrides(gpus=(0, 1)), Overrides(gpus=(0, 1))),
        (2, Overrides(gpus=(1, 3)), Overrides(gpus=(1,))),
        (1, Overrides(gpus=(2, 3), precision="nf4"), Overrides(precision="nf4")),
        (1, Overrides(max_memory=(("cuda:1", 5), ("cpu", 6))), Overrides(max_memory=(("cpu", 6),))),
        (0, Overrides(gpu_layers=12), Overrides()),
        (0, Overrides(gpu_layers=0), Overrides(gpu_layers=0)),
        (1, MAP, MAP),
        (0, MAP, Overrides()),
    ],
)
def test_another_machine_keeps_what_it_has(gpus: int, overrides: Overrides, left: Overrides) -> None:
    hardware = machines.machine(*(machines.gpu(index) for index in range(gpus)))
    kept = by_hand.for_machine(overrides, hardware)
    assert kept.overrides == left
    assert bool(kept.dropped) is (left != overrides)


def test_a_second_limit_of_a_device_takes_the_place_of_the_first() -> None:
    once = by_hand.with_limit(Overrides(max_memory=(("cpu", 1),)), "cuda:0", 2)
    assert by_hand.with_limit(once, "cpu", 3).max_memory == (("cuda:0", 2), ("cpu", 3))


def test_every_setting_is_listed_once_it_is_made() -> None:
    made = Overrides(
        gpus=(0,), gpu_layers=1, precision="nf4", context_tokens=2, images=0, image_tokens=66,
        cpu_layers_mode="compute", offload_dir="/x", max_memory=(("cpu", 1),), device_map=(("", "cpu"),),
        base="/y", vision_tower="/t", tokenizer="/w", template="v1",
    )  # fmt: skip
    assert len(by_hand.set_fields(made)) == 14
    assert by_hand.set_fields(by_hand.without(made, *by_hand.set_fields(made))) == ()
    assert by_hand.set_fields(replace(Overrides(), images=0)) == ("images",)


@pytest.mark.parametrize(
    ("written", "means"),
    [(None, None), (0, 0), (2048, 2048), (-1, -1), (1e308, "1e+308"), (-1e12, "-1e+12"), (math.inf, "inf"),
     (math.nan, "nan")],
)  # fmt: skip
def test_numbers(written: float | None, means: int | str | None) -> None:
    if not isinstance(means, str):
        assert by_hand.number("context_tokens", written) == means
        return
    with pytest.raises(SettingInvalid, match="It takes a whole number up to 1,000,000,000") as caught:
        by_hand.number("context_tokens", written)
    assert str(caught.value.what_text) == f'"Context (tokens)" can\'t be {means}.'


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("", None),
        (None, None),
        ("  ", None),
        ('"D:\\a b"', "D:\\a b"),
        ("/tmp/图片", "/tmp/图片"),
        ("~/x", "~/x"),
    ],
)
def test_folders(written: str | None, means: str | None) -> None:
    assert by_hand.folder(written) == means


@pytest.mark.parametrize("written", ["offload", "./a", "C:a", "..", "a\\b"])
def test_a_folder_that_could_mean_several(written: str) -> None:
    with pytest.raises(SettingInvalid, match="whole path"):
        by_hand.folder(written)


@pytest.mark.parametrize(
    ("overrides", "engine", "dropped"),
    [
        (Overrides(precision="q8_0"), "transformers", ("precision",)),
        (Overrides(precision="nf4"), "transformers", ()),
        (Overrides(precision="nf4"), "llamacpp", ("precision",)),
        (Overrides(precision="q4_0", context_tokens=512), "llamacpp", ()),
        (
            Overrides(cpu_layers_mode="stream", offload_dir="/x"),
            "llamacpp",
            ("cpu_layers_mode", "offload_dir"),
        ),
        (MAP, "llamacpp", ("device_map",)),
        (MAP, "transformers", ()),
        (Overrides(engine="llamacpp", precision="q4_0"), None, ()),
    ],
)
def test_an_engine_drops_what_it_does_not_have(
    overrides: Overrides, engine: EngineName | None, dropped: tuple[str, ...]
) -> None:
    kept = by_hand.for_engine(overrides, engine)
    assert kept.overrides == replace(by_hand.without(overrides, *dropped), engine=engine)
    assert len(kept.dropped) == len(dropped)


@pytest.mark.parametrize(
    ("overrides", "dropped"),
    [
        (Overrides(precision="q8_0"), ("precision",)),
        (Overrides(precision="float16"), ()),
        (Overrides(engine="transformers"), ("engine",)),
        (Overrides(engine="llamacpp"), ()),
    ],
)
def test_a_gguf_file_decides_engine_and_precision(overrides: Overrides, dropped: tuple[str, ...]) -> None:
    kept = by_hand.for_model(overrides, replace(model(), format="gguf"))
    assert kept.overrides == by_hand.without(overrides, *dropped)
    assert len(kept.dropped) == len(dropped)
