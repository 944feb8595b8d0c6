"""What layers with windows, states and pictures of their own keep, on the devices that they lie on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.models.types import LayerCache, ModelInfo, ModuleKind
from backends.placement import estimate
from backends.placement.estimate import Load, Workload
from backends.placement.planner import plan
from backends.placement.precision import Precision
from backends.placement.types import Overrides, PlanRequest
from backends.presets import Preset
from tests.support.machines import gpu, machine

FP16 = Precision("fp16", "float16")
KEYS = 2 * 32 * 128  # of LLaVA-1.5-7B: numbers a token, in one layer
WINDOW, STATE = LayerCache(KEYS, window=1024), LayerCache(0, state_fp32=500_000)
PICTURES = LayerCache(KEYS, picture_tokens=6404)
EVERY = 2 * KEYS * 4096


def with_kinds(model: ModelInfo, kinds: list[LayerCache | None]) -> ModelInfo:
    """`model` with the kinds repeated over its layers."""
    index = -1
    modules = []
    for module in model.modules:
        index += module.kind is ModuleKind.LAYER
        cache = kinds[index % len(kinds)] if module.kind is ModuleKind.LAYER else None
        modules.append(replace(module, cache=cache))
    return replace(model, modules=tuple(modules))


def load_of(model: ModelInfo, count: int) -> Load:
    load = Load()
    for layer in [module for module in model.modules if module.kind is ModuleKind.LAYER][:count]:
        load.add(layer, 1, FP16, quantized=False)
    return load


@pytest.mark.parametrize(
    ("kinds", "count", "expected"),
    [
        pytest.param([None], 32, 32 * EVERY, id="all keep everything"),
        pytest.param([WINDOW], 32, 32 * EVERY // 4, id="all keep a quarter of the context"),
        pytest.param([WINDOW] * 5 + [None], 12, 10 * EVERY // 4 + 2 * EVERY, id="five of six keep a window"),
        pytest.param([STATE, STATE, STATE, None], 4, 3 * 2_000_000 + EVERY, id="three of four keep a state"),
        pytest.param([None] * 3 + [PICTURES], 4, 3 * EVERY + 2 * 2 * KEYS * 6404, id="one sees pictures"),
    ],
)  # fmt: skip
def test_each_layer_is_counted_by_its_kind(
    kinds: list[LayerCache | None], count: int, expected: int, llava: ModelInfo
) -> None:
    load = load_of(with_kinds(llava, kinds), count)

    assert estimate.kv_cache(llava.text, load, Workload(4096, 2, 576), 2) == expected
    assert estimate.kv_cache(llava.text, load.copy(), Workload(4096, 2, 576), 2) == expected


@pytest.mark.parametrize("mode", ["compute", "stream"])
def test_a_split_model_s_caches_lie_with_its_layers(mode: str, llava: ModelInfo) -> None:
    hybrid = with_kinds(llava, [WINDOW] * 5 + [None])
    overrides = Overrides(gpu_layers=12, cpu_layers_mode=mode, context_tokens=4096)  # type: ignore[arg-type]

    made = plan(machine(gpu(0, total=12), ram=64), hybrid, PlanRequest("m", Preset.CUSTOM, overrides))

    held = {share.device: share.kv_cache_bytes for share in made.devices}
    on_card, in_ram = 10 * EVERY // 4 + 2 * EVERY, 17 * EVERY // 4 + 3 * EVERY
    assert made.gpu_layers == 12
    assert held == (
        {"cuda:0": on_card, "cpu": in_ram} if mode == "compute" else {"cuda:0": on_card + in_ram, "cpu": 0}
    )


def test_windows_leave_room_for_more_layers_and_read_less_for_a_token(llava: ModelInfo) -> None:
    asked = PlanRequest("m", Preset.LOW, Overrides(context_tokens=4096))
    card = machine(gpu(0, total=6), ram=32)

    everything, windows = plan(card, llava, asked), plan(card, with_kinds(llava, [WINDOW]), asked)

    assert windows.gpu_layers > everything.gpu_layers
    assert windows.expected.tokens_per_s > everything.expected.tokens_per_s


@pytest.mark.parametrize(
    ("kinds", "sentences"),
    [
        pytest.param([None], [], id="nothing to say"),
        pytest.param(
            [WINDOW, None, None, None],
            ["Of 32 layers, 8 keep the last 1,024 tokens only."],
            id="windows",
        ),
        pytest.param(
            [STATE, STATE, STATE, None],
            ["Of 32 layers, 24 keep no tokens: at most a state whose size does not grow."],
            id="states",
        ),
        pytest.param(
            [PICTURES, None, None, None],
            ["Of 32 layers, 8 keep the 6,404 patches of each picture instead of words."],
            id="pictures",
        ),
        pytest.param([LayerCache(KEYS, window=1 << 20)], [], id="a window that nothing leaves"),
    ],
)
def test_a_plan_says_what_layers_keep(
    kinds: list[LayerCache | None], sentences: list[str], llava: ModelInfo
) -> None:
    made = plan(machine(gpu(0), ram=64), with_kinds(llava, kinds), PlanRequest("m"))

    said = [str(reason) for reason in made.reasons]
    assert [sentence for sentence in said if sentence.startswith("Of 32 layers")] == sentences


@pytest.mark.parametrize(
    ("kind", "in_pieces"),
    [
        pytest.param(None, True, id="all tokens"),
        pytest.param(LayerCache(KEYS // 2), True, id="all tokens, narrow"),
        pytest.param(WINDOW, False, id="a window"),
        pytest.param(STATE, False, id="a state"),
        pytest.param(PICTURES, False, id="pictures"),
    ],
)
def test_prompts_are_read_in_pieces_only_where_a_cache_can_be_cut_back(
    kind: LayerCache | None, in_pieces: bool, llava: ModelInfo
) -> None:
    def active(model: ModelInfo) -> int:
        return plan(machine(ram=64), model, PlanRequest("m", Preset.CPU)).devices[0].activation_bytes

    usual, whole = active(llava), active(replace(llava, family="another"))
    assert usual < whole
    assert (active(with_kinds(llava, [kind])) == usual) == in_pieces
