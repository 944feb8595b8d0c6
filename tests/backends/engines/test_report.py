"""What a loaded model's memory is made of, read off real models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from backends.engines.report import Meter, gpus_of, mapped_weights, real_device_map, weights_at_rest
from tests.support.plans import make_plan

LINUX = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells addresses")


class Small(torch.nn.Module):
    """Two layers that share a weight, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(64, 64, bias=False)
        self.second = torch.nn.Linear(64, 64, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("table", torch.zeros(256))


def test_shared_weights_count_once_and_buffers_count() -> None:
    assert weights_at_rest(Small(), make_plan("model")) == {"cpu": 64 * 64 * 4 + 256 * 4}


def test_weights_that_are_kept_elsewhere_are_the_plans_figure() -> None:
    model = Small()
    model.first.weight = torch.nn.Parameter(torch.empty(64, 64, device="meta"))
    assert weights_at_rest(model, make_plan("model", weights_bytes=123_456))["cpu"] == 123_456


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("first", "second"), ("first", "second")),
        (("", "rotary_emb"), ()),
        (("first", "rotary_emb"), ("first",)),
        ((), ("first",)),
    ],
    ids=["as planned", "no such module", "one that the family has not", "all of it"],
)
def test_where_modules_lie_is_told_of_those_that_are_there(
    names: tuple[str, ...], found: tuple[str, ...]
) -> None:
    told = dict(real_device_map(Small(), names))
    assert set(found) <= set(told)
    assert set(told.values()) <= {"cpu"}
    assert "rotary_emb" not in told


@LINUX
def test_only_views_of_a_mapped_weight_file_are_mapped_weights(tmp_path: Path) -> None:
    file = tmp_path / "权重 model.safetensors"
    save_file({"weight": torch.ones(64, 64), "other": torch.ones(1024, 1024)}, file)
    model = Small()
    assert mapped_weights(model) == 0
    kept = load_file(file)
    model.first.weight = torch.nn.Parameter(kept["weight"])
    found = mapped_weights(model)
    # Where safetensors maps the file, its views are found; where it reads, there is nothing to find.
    lies_in_file = "权重 model.safetensors" in Path("/proc/self/maps").read_text(encoding="utf-8")
    assert found == (64 * 64 * 4 if lies_in_file else 0)


def test_a_system_that_tells_no_addresses_has_no_mapped_weights(tmp_path: Path) -> None:
    assert mapped_weights(Small(), tmp_path / "none") == 0


@LINUX
def test_areas_of_weight_files_are_told_from_others(tmp_path: Path) -> None:
    model = Small()
    address = model.first.weight.data_ptr()
    maps = tmp_path / "maps"
    lines = [
        f"{address - 4096:x}-{address:x} r--p 0 0:0 0 /w/model.safetensors",
        f"{address:x}-{address + 4096:x} r--p 0 0:0 0 /lib/other.so",
    ]
    maps.write_text("\n".join(lines), encoding="utf-8")
    assert mapped_weights(model, maps) == 0
    maps.write_text("\n".join(line.replace("other.so", "b.safetensors") for line in lines), encoding="utf-8")
    assert mapped_weights(model, maps) == 64 * 64 * 4


def test_a_model_in_ram_has_one_peak() -> None:
    (ram,) = Meter(Small(), make_plan("model")).read()
    assert (ram.device, ram.weights_bytes, ram.mapped_weights_bytes) == ("cpu", 64 * 64 * 4 + 256 * 4, 0)


def test_gpus_are_named_by_the_driver() -> None:
    plan = make_plan("model", device_map={"a": "cuda:3", "b": "cuda:1", "c": "cpu"}, visible_gpus=(1, 3))
    assert gpus_of(plan) == ("cuda:1", "cuda:3")
