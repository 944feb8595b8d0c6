"""How many pictures a chat may hold, and what as many as fit need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from backends.errors import PicturesExceeded
from backends.messages import ImagePart, Message, Role
from backends.models.types import ModelInfo, ModuleKind, VisionGeometry
from backends.placement import estimate
from backends.placement.estimate import Workload
from backends.placement.pictures import check_number, most_pictures, tiles_at_once
from backends.placement.planner import plan
from backends.placement.precision import Precision
from backends.placement.types import Overrides, PlanRequest
from backends.presets import Preset
from tests.support.machines import MIB, machine
from tests.support.plans import make_plan


def chat(pictures: int) -> list[Message]:
    """A chat with a picture in each turn."""
    picture = ImagePart(Path("a.png"), "a", 8, 8)
    return [Message(Role.USER, (picture,)) for _ in range(pictures)]


@pytest.mark.parametrize(
    ("family", "planned", "most"),
    [
        ("llava", 1, None),
        ("qwen2_5_vl", 1, None),
        ("gemma3", 2, None),
        ("gemma3", 0, 0),
        ("mllama", 1, 1),
        ("mllama", 3, 3),
        ("mistral3", 1, 1),
        ("a_new_family", 1, 1),
    ],
)
def test_a_chat_is_held_to_the_planned_pictures_where_their_number_takes_memory(
    family: str, planned: int, most: int | None
) -> None:
    held = replace(make_plan("a model"), family=family, images=planned)
    assert most_pictures(held) == most
    check_number(held, chat(20 if most is None else most))
    if most is not None:
        with pytest.raises(PicturesExceeded) as found:
            check_number(held, chat(most + 1))
        assert found.value.values == {"pictures": most + 1, "planned": planned}


def _peak(model: ModelInfo, images: int, context: int, *, family: str, width: int = 2) -> int:
    assert model.vision is not None
    work = Workload(context, images, min(model.vision.tokens_per_image, 1024))
    return estimate.vision_activation(model.vision, model.text, work, width, family=family)


def test_pictures_encoded_one_by_one_need_one_tower_whatever_their_number(
    models: dict[str, ModelInfo],
) -> None:
    model = models["qwen2.5-vl-7b"]
    one, four = (_peak(model, images, 4096, family="qwen2_5_vl") for images in (1, 4))
    assert one == four, "the context holds four pictures, planned or not"
    assert _peak(model, 4, 4096, family="") > 3 * _peak(model, 1, 4096, family="")


def test_the_pixels_of_as_many_pictures_as_the_context_holds_are_counted(
    models: dict[str, ModelInfo],
) -> None:
    model = models["qwen2.5-vl-7b"]
    short, long = (_peak(model, 1, context, family="qwen2_5_vl") for context in (1024, 4096))
    pixels = 4 * 1024 * 2 * 3 * 14**2
    features = 3 * 1024 * model.text.hidden
    assert long - short == 3 * (pixels + features) * 2


@pytest.mark.parametrize(
    ("family", "at_once"), [("internvl", 1), ("smolvlm", 1), ("llava_onevision", 13), ("qwen2_vl", 13)]
)
def test_tiles_that_are_rows_of_their_own_are_encoded_one_by_one(family: str, at_once: int) -> None:
    assert tiles_at_once(family, 13) == at_once


def test_a_tile_at_a_time_needs_a_tiles_tower(models: dict[str, ModelInfo]) -> None:
    model = models["llava-1.6-7b"]
    assert model.vision is not None
    tiled: VisionGeometry = replace(model.vision, tokens_per_image=1024)
    model = replace(model, vision=tiled)
    together, alone = (_peak(model, 1, 1024, family=family) for family in ("llava_next", "internvl"))
    rows = (tiled.max_tiles - 1) * tiled.patches
    assert together - alone == rows * ((tiled.layers + 3) * tiled.hidden * 2 + 4 * tiled.intermediate)


@pytest.mark.parametrize(("images", "read"), [(0, False), (1, True)], ids=["never asked for", "asked for"])
def test_eyes_on_the_disk_are_read_for_pictures_only(
    images: int, read: bool, models: dict[str, ModelInfo]
) -> None:
    model = models["llava-1.5-7b"]
    where = tuple(
        (module.name, "disk" if module.kind is ModuleKind.VISION else "cpu") for module in model.modules
    )
    overrides = Overrides(images=images, precision="bf16", context_tokens=2048, device_map=where)
    found = plan(machine(ram=64), model, PlanRequest("llava", Preset.CUSTOM, overrides))
    ram = next(share for share in found.devices if share.device == "cpu")
    assert (ram.staging_bytes > 0) == read


def test_the_heaps_gaps_are_counted_in_ram_where_pictures_are_encoded_one_by_one(
    models: dict[str, ModelInfo],
) -> None:
    model = models["qwen2.5-vl-7b"]

    def overhead(device: str, family: str) -> int:
        found = estimate.share(
            device, device, 0, estimate.Load(layers=0, vision=True),
            text=model.text, vision=model.vision, work=Workload(4096, 1, 1024),
            precision=Precision("bf16", "bfloat16"), overhead=0, sees_as=family,
        )  # fmt: skip
        return found.overhead_bytes - found.activation_bytes * (10 if device == "cpu" else 6) // 100

    more = overhead("cpu", "qwen2_5_vl") - overhead("cpu", "mllama")
    assert more == pytest.approx(64 * MIB, abs=MIB), "at most 64 MiB: larger blocks go back at once"
    assert overhead("cuda:0", "qwen2_5_vl") == pytest.approx(overhead("cuda:0", "mllama"), abs=MIB)
