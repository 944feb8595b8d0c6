"""`plan --json` has exactly the keys of the contract."""

from __future__ import annotations

import json

import pytest

from backends.models.types import ModelInfo
from backends.placement.export import device_map_json, plan_to_json
from backends.placement.planner import plan
from backends.placement.types import PlanRequest
from backends.presets import Preset
from tests.support.machines import gpu, machine

KEYS = {
    "model", "preset", "engine", "precision", "verdict", "device_map", "gpu_layers", "cpu_layers_mode",
    "context_tokens", "image_tokens", "offload_dir", "devices", "load_peak_ram_bytes", "expected", "reasons",
    "alternatives", "conversion",
}  # fmt: skip
DEVICE_KEYS = {
    "id", "name", "budget_bytes", "weights_bytes", "kv_cache_bytes", "activation_bytes", "staging_bytes",
    "overhead_bytes", "total_bytes",
}  # fmt: skip


@pytest.mark.parametrize(
    "hardware", [machine(gpu(0)), machine(ram=8, available=5), machine(ram=4, available=0.5, disk=0.1)]
)
@pytest.mark.parametrize("preset", Preset)
def test_keys_and_types(llava: ModelInfo, hardware: object, preset: Preset) -> None:
    found = plan(hardware, llava, PlanRequest("llava", preset))  # type: ignore[arg-type]

    document = json.loads(json.dumps(plan_to_json(found)))

    assert set(document) == KEYS
    assert set(document["model"]) == {"path", "family", "parameters", "layers", "format"}
    assert set(document["expected"]) == {"load_s", "first_token_s", "tokens_per_s"}
    assert document["preset"] == preset.value
    assert document["verdict"] in ("fits", "slow", "no")
    for device in document["devices"]:
        assert set(device) == DEVICE_KEYS
        assert all(isinstance(value, int) for key, value in device.items() if key.endswith("_bytes"))
        parts = ("weights", "kv_cache", "activation", "staging", "overhead")
        assert device["total_bytes"] == sum(device[f"{part}_bytes"] for part in parts)
    for other in document["alternatives"]:
        assert set(other) == {"engine", "precision", "verdict", "tokens_per_s", "why_not"}
    assert all(isinstance(reason, str) and reason for reason in document["reasons"])


def test_sentences_are_said_in_the_persons_language(llava: ModelInfo) -> None:
    found = plan(machine(gpu(0)), llava, PlanRequest("llava"))

    document = plan_to_json(found, say=lambda text: f"<{text.code}>")

    assert document["reasons"][0] == "<reason.one_gpu>"
    assert document["alternatives"][0]["why_not"].startswith("<why.")


def test_the_device_map_keeps_execution_order(llava: ModelInfo) -> None:
    found = plan(machine(gpu(0)), llava, PlanRequest("llava"))

    assert list(device_map_json(found)) == [module.name for module in llava.modules]
