"""Which other plans a loaded model can be moved to, and what stands in the way of the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.placement.moving import why_reload
from backends.placement.types import Plan
from tests.support.plans import make_plan

LAYERS = ("embed", "layers.0", "layers.1", "head")


def on(*devices: str, precision: str = "fp16", path: str = "m", gpus: tuple[int, ...] = (0, 1)) -> Plan:
    places = dict(zip(LAYERS, devices, strict=True))
    return make_plan(path, device_map=places, precision=precision, visible_gpus=gpus)


RAM = on("cpu", "cpu", "cpu", "cpu")
HYBRID = on("cuda:0", "cuda:0", "cpu", "cpu")


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (RAM, RAM, None),
        (RAM, HYBRID, None),
        (HYBRID, on("cuda:1", "cuda:1", "disk", "cpu"), None),
        (HYBRID, on("cuda:1", "cuda:1", "cpu", "cpu", path="other"), "move.other_model"),
        (HYBRID, replace(HYBRID, precision="int8"), "move.precision"),
        (HYBRID, replace(HYBRID, compute_dtype="bfloat16"), "move.precision"),
        (on("cpu", "cpu", "cpu", "cpu", gpus=()), HYBRID, "move.hidden_gpu"),
        (HYBRID, on("cuda:2", "cuda:2", "cpu", "cpu"), "move.hidden_gpu"),
        (
            on("cuda:0", "cuda:0", "cuda:0", "cuda:0", precision="int8"),
            on("cuda:0", "cuda:0", "cuda:1", "cuda:1", precision="int8"),
            None,
        ),
        (
            on("cuda:0", "cuda:0", "cuda:0", "cuda:0", precision="int8"),
            on("cuda:0", "cuda:0", "cuda:0", "cpu", precision="int8"),
            None,
        ),
        (
            on("cuda:0", "cuda:0", "cuda:0", "cuda:0", precision="int8"),
            on("cuda:0", "cuda:0", "cpu", "cpu", precision="int8"),
            "move.width",
        ),
        (
            on("cpu", "cpu", "cpu", "cpu", precision="nf4"),
            on("cpu", "cpu", "disk", "cpu", precision="nf4"),
            "move.width",
        ),
        (
            on("cuda:0", "cuda:0", "cpu", "cpu", precision="nf4"),
            on("cuda:0", "cuda:0", "disk", "cpu", precision="nf4"),
            None,
        ),
    ],
    ids=[
        "nothing changes",
        "to a GPU",
        "from one GPU to another, and to the disk",
        "another model",
        "another precision",
        "another dtype beside the quantized layers",
        "a process without GPUs",
        "a GPU that was not chosen",
        "8-bit layers between GPUs",
        "a head is never quantized",
        "an 8-bit layer does not become a full one",
        "quantized layers stay off the disk",
        "full layers beside 4-bit ones may go there",
    ],
)
def test_what_stands_in_the_way(old: Plan, new: Plan, code: str | None) -> None:
    found = why_reload(old, new)
    assert (found and found.code) == code


def test_a_loaded_whole_covers_its_layers() -> None:
    whole = make_plan("m", device_map={"": "cuda:0"}, precision="int8", visible_gpus=(0, 1))
    assert why_reload(whole, on("cuda:0", "cuda:1", "cuda:1", "cuda:1", precision="int8")) is None
    assert why_reload(whole, on("cuda:0", "cuda:0", "cpu", "cpu", precision="int8")) is not None
