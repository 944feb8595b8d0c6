"""What a plan says that loading writes to the disk is what loading writes, to the byte."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open

from backends.engines.offload import OffloadFolder
from backends.engines.options import load_options
from backends.engines.transformers_engine import TransformersEngine
from backends.errors import DiskFull
from backends.models.identify import identify
from backends.models.types import ModelInfo, ModuleKind
from backends.placement.planner import plan
from backends.placement.types import DeviceShare, Overrides, Plan, PlanRequest
from backends.presets import Preset
from tests.support.machines import GIB, machine
from tests.support.tiny_models import TEXT_CHATML, make_tokenizer, text_config

# The sizes that every family of the table names alike.
SIZES: dict[str, Any] = {
    **{key: value for key, value in text_config().to_dict().items() if key.endswith(("size", "heads"))},
    "num_hidden_layers": 3,
    "head_dim": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 3,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
TOWER = {"depth": 2, "hidden_size": 32, "out_hidden_size": 64, "num_heads": 2, "intermediate_size": 64}
# Family -> (class, its config, whether loading puts weights together that no file has like that).
FAMILIES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "llama: as it is": ("LlamaForCausalLM", SIZES, False),
    "llama: a tied head": ("LlamaForCausalLM", SIZES | {"tie_word_embeddings": True}, False),
    "phi3: fused in the file, too": ("Phi3ForCausalLM", SIZES, False),
    "gpt-oss: experts lie in one tensor": ("GptOssForCausalLM", SIZES | {"num_local_experts": 4}, False),
    "mixtral: numbered experts": ("MixtralForCausalLM", SIZES | {"num_local_experts": 4}, True),
    "qwen3-moe: numbered experts": ("Qwen3MoeForCausalLM", SIZES | EXPERTS, True),
    "olmoe: numbered experts": ("OlmoeForCausalLM", SIZES | EXPERTS, True),
    "qwen3-vl-moe: turned experts": (
        "Qwen3VLMoeForConditionalGeneration",
        {
            "text_config": {
                **(SIZES | EXPERTS),
                "rope_parameters": {"rope_type": "default", "mrope_section": [4, 2, 2]},
            },
            "vision_config": TOWER | {"deepstack_visual_indexes": [0]},
        },
        True,
    ),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny bf16 model by its family, as its publisher would save it."""
    root = tmp_path_factory.mktemp("families")

    def folder(family: str) -> Path:
        path = root / family.partition(":")[0]
        path = path / "tied" if "tied" in family else path
        if not (path / "config.json").exists():
            name, arguments, _ = FAMILIES[family]
            kind = getattr(transformers, name)
            torch.manual_seed(5)
            kind(kind.config_class(**arguments)).to(torch.bfloat16).save_pretrained(path)
            tokenizer = make_tokenizer()
            tokenizer.chat_template = TEXT_CHATML
            tokenizer.save_pretrained(path)
        return path

    return folder


def planned(folder: Path, model: ModelInfo, precision: str, offload: Path, *, disk: float = 200) -> Plan:
    """All but the first layer on the disk."""
    layers = [module.name for module in model.modules if module.kind is ModuleKind.LAYER]
    places = (("", "cpu"), *((name, "disk") for name in layers[1:]))
    overrides = Overrides(device_map=places, precision=precision, offload_dir=str(offload))
    return plan(machine(disk=disk), model, PlanRequest(str(folder), Preset.CUSTOM, overrides))


def tensor_bytes(folder: Path) -> int:
    """Bytes of weights in the safetensors files below `folder`, without their headers."""
    total = 0
    for path in folder.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as opened:
            total += sum(opened.get_tensor(name).nbytes for name in opened.keys())  # noqa: SIM118
    return total


def share(made: Plan, device: str) -> DeviceShare:
    return next(found for found in made.devices if found.device == device)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_written(family: str, precision: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    folder, offload = saved(family), tmp_path / "off load"
    model = identify(folder)
    made = planned(folder, model, precision, offload)
    kind = getattr(transformers, FAMILIES[family][0])
    kind.from_pretrained(folder, **load_options(made, offload))
    assert made.disk_needed_bytes == tensor_bytes(offload)
    assert (made.disk_needed_bytes > 0) == FAMILIES[family][2]


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_rests_there_is_what_is_written_and_what_lies_in_the_files(
    family: str, precision: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = saved(family)
    model = identify(folder)
    made = planned(folder, model, precision, tmp_path)
    places = dict(made.device_map)
    there = [module for module in model.modules if places[module.name] == "disk"]
    in_files = sum((module.parameters - module.converted_parameters) * 2 for module in there)
    disk = share(made, "disk")
    assert disk.weights_bytes == disk.total_bytes == in_files + made.disk_needed_bytes
    # What lies in the files needs no space.
    assert disk.budget_bytes == 199 * GIB + in_files


def test_the_reasons_say_what_is_written_and_where(saved: Callable[[str], Path], tmp_path: Path) -> None:
    said = {}
    for family in ("llama: as it is", "mixtral: numbered experts"):
        folder = saved(family)
        said[family] = " ".join(map(str, planned(folder, identify(folder), "bf16", tmp_path).reasons))
    in_place, written = said.values()
    assert "read from the model's own files, which takes no space on the disk" in in_place
    assert str(tmp_path) not in in_place
    assert f"are written to {tmp_path} first" in written


def test_a_full_disk_is_no_obstacle_where_nothing_is_written(
    saved: Callable[[str], Path], tmp_path: Path
) -> None:
    verdicts = {}
    for family in ("llama: as it is", "mixtral: numbered experts"):
        folder = saved(family)
        made = planned(folder, identify(folder), "bf16", tmp_path, disk=0.5)
        verdicts[family] = made.verdict
    assert verdicts == {"llama: as it is": "slow", "mixtral: numbered experts": "no"}


@pytest.mark.parametrize("family", ["llama: as it is", "mixtral: numbered experts"])
def test_the_engine_checks_for_just_that(
    family: str, saved: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = saved(family), []
    made = planned(folder, identify(folder), "fp32", tmp_path / "off")
    monkeypatch.setattr(OffloadFolder, "check", lambda _, needed: asked.append(needed))
    engine = TransformersEngine()
    engine.load(made, lambda _: None, Flag())
    assert asked == [made.disk_needed_bytes]
    assert tensor_bytes(tmp_path / "off") == made.disk_needed_bytes
    engine.close()
    monkeypatch.undo()
    huge = replace(made, disk_needed_bytes=shutil.disk_usage(tmp_path).total)
    with pytest.raises(DiskFull):
        engine.load(huge, lambda _: None, Flag())
    assert not (tmp_path / "off").exists()
