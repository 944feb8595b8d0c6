"""Each term of the memory model, against figures worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.models.types import ModelInfo, Module, ModuleKind, TextGeometry
from backends.placement import estimate
from backends.placement.estimate import Load, Workload
from backends.placement.precision import Precision
from tests.support.machines import MIB, gpu

FP16, FP32 = Precision("fp16", "float16"), Precision("fp32", "float32")
INT8, NF4 = Precision("int8", "float16"), Precision("nf4", "bfloat16")
LLAMA_7B = TextGeometry(4096, 11008, 32, 32, 32, 128, 32064, 4096)
GROUPED = TextGeometry(4096, 14336, 32, 32, 8, 128, 32064, 32768)
LAYER = Module("layers.0", ModuleKind.LAYER, 202_383_360, 404_766_720, 202_375_168, 42_496)
HEAD = Module("lm_head", ModuleKind.HEAD, 131_334_144, 262_668_288, 131_334_144, 32_064)


@pytest.mark.parametrize(
    ("module", "precision", "quantize", "expected"),
    [
        pytest.param(LAYER, FP16, True, 2 * 202_383_360, id="fp16: two bytes"),
        pytest.param(LAYER, FP32, True, 4 * 202_383_360, id="fp32: four bytes"),
        pytest.param(
            LAYER, INT8, True, 202_375_168 + 4 * 42_496 + 2 * 8192, id="int8: a byte, a scale per row"
        ),
        pytest.param(
            LAYER, NF4, True, 101_187_584 + 3_162_112 + 49_408 + 2 * 8192, id="nf4: half a byte, two scales"
        ),
        pytest.param(LAYER, INT8, False, 2 * 202_383_360, id="int8 leaves layers in RAM at full width"),
        pytest.param(HEAD, NF4, True, 2 * 131_334_144, id="the head is never quantized"),
    ],
)
def test_weights(module: Module, precision: Precision, quantize: bool, expected: int) -> None:
    assert precision.module_bytes(module, quantize=quantize) == expected


@pytest.mark.parametrize(
    ("text", "tokens", "mib"),
    [
        pytest.param(LLAMA_7B, 2048, 32, id="7B: 1 GiB for 2,048 tokens over 32 layers"),
        pytest.param(GROUPED, 2048, 8, id="grouped keys and values: a quarter"),
    ],
)
def test_cache_per_layer(text: TextGeometry, tokens: int, mib: int) -> None:
    assert estimate.kv_cache_per_layer(text, tokens, 2) == mib * MIB


def test_prefill_peaks_in_the_mlp_of_a_7b() -> None:
    tokens, width = 2048, 2
    mlp = (4096 + 3 * 11008) * width
    expected = tokens * (4096 * width + mlp) + tokens * tokens * width + 32 * MIB

    assert estimate.text_activation(LLAMA_7B, tokens, FP16) == expected


@pytest.mark.parametrize("precision", [INT8, NF4])
def test_quantized_prefill_needs_more(precision: Precision) -> None:
    assert estimate.text_activation(LLAMA_7B, 512, precision) > estimate.text_activation(LLAMA_7B, 512, FP16)


def test_activations_grow_with_tokens_pictures_and_tiles(models: dict[str, ModelInfo]) -> None:
    model = models["llava-1.6-7b"]
    assert model.vision is not None

    def peak(images: int, tokens: int) -> int:
        work = Workload(tokens, images, 2928)
        return estimate.vision_activation(model.vision, model.text, work, 2) if model.vision else 0

    assert peak(0, 4096) == 0
    assert peak(2, 4096) == 2 * peak(1, 4096)
    # Five tiles of 577 patches whose 25 layers' outputs of 1,024 numbers are kept.
    assert peak(1, 4096) > 5 * 577 * 25 * 1024 * 2


def test_logits_count_one_token_only() -> None:
    assert estimate.logits_bytes(LLAMA_7B, 2) == 32064 * 14


def test_what_a_device_does_decides_its_activations(llava: ModelInfo) -> None:
    work = Workload(2048, 1, 576)

    def peak(**flags: bool | int) -> int:
        return estimate.activation(llava.text, llava.vision, Load(**flags), work, FP16)  # type: ignore[arg-type]

    assert peak() == 0
    assert peak(head=True) == 32064 * 14
    assert peak(layers=1) == peak(layers=20)
    assert peak(layers=1, embed=True) == peak(layers=1) + 2 * 2048 * 4096 * 2


@pytest.mark.parametrize(
    ("capability", "mib"),
    [((6, 1), 364), ((7, 5), 414), ((8, 6), 514), ((9, 0), 614), ((12, 0), 664), (None, 514)],
)
def test_cuda_context_by_generation(capability: tuple[int, int] | None, mib: int) -> None:
    assert estimate.gpu_overhead(gpu(0, compute_capability=capability)) == mib * MIB


def test_quantizing_needs_room_that_cache_and_activations_lend(llava: ModelInfo) -> None:
    load = Load(weights=1, layers=1, largest=8 * 1024 * MIB, quantizes=True)
    plain = Load(weights=1, layers=1, largest=8 * 1024 * MIB)

    def staging(found: Load) -> int:
        return estimate.share(
            "cuda:0", "card", 0, found,
            text=llava.text, vision=None, work=Workload(2048, 0, 0), precision=INT8, overhead=0,
        ).staging_bytes  # fmt: skip

    assert staging(plain) == 0
    assert 0 < staging(load) < 4 * 8 * 1024 * MIB


def test_a_visiting_layer_is_staged(llava: ModelInfo) -> None:
    share = estimate.share(
        "cuda:0", "card", 0, Load(visiting=123),
        text=llava.text, vision=None, work=Workload(2048, 0, 0), precision=FP16, overhead=0,
    )  # fmt: skip

    assert share.staging_bytes == 123


def test_the_total_is_the_sum_of_its_parts(tmp_path: Path, llava: ModelInfo) -> None:
    share = estimate.share(
        "cpu", "CPU", 10, Load(weights=1000, layers=2),
        text=llava.text, vision=None, work=Workload(64, 0, 0), precision=FP32, overhead=7,
    )  # fmt: skip

    parts = share.weights_bytes + share.kv_cache_bytes + share.activation_bytes + share.staging_bytes
    assert share.total_bytes == parts + share.overhead_bytes
    assert share.kv_cache_bytes == 2 * 2 * 32 * 128 * 4 * 64


@pytest.mark.parametrize(
    ("family", "images", "streamed", "rows"),
    [
        pytest.param("llava", 0, False, 128, id="text in pieces of 128"),
        pytest.param("llava", 1, False, 128 + 576, id="a picture with the words before it"),
        pytest.param("llava_next", 1, False, 704, id="the same for anyres"),
        pytest.param("llava", 1, True, 2048, id="few passes where weights are moved"),
        pytest.param("qwen2_5_vl", 1, False, 4096, id="others at once"),
        pytest.param("", 1, False, 4096, id="an unknown family at once"),
    ],
)
def test_rows_of_a_pass(llava: ModelInfo, family: str, images: int, *, streamed: bool, rows: int) -> None:
    work = Workload(4096, images, 576 if images else 0)
    assert estimate.pass_rows(family, llava.vision, work, streamed=streamed) == rows


def test_a_pass_is_never_longer_than_the_context(llava: ModelInfo) -> None:
    assert estimate.pass_rows("llava", llava.vision, Workload(100, 0, 0), streamed=True) == 100


def test_text_models_are_read_in_pieces_where_no_layer_forgets() -> None:
    work = Workload(2048, 0, 0)
    assert estimate.pass_rows("llama", None, work, streamed=False) == 128
    assert estimate.pass_rows("gemma2", None, work, streamed=False) == 2048


def test_pieces_are_the_engines_own() -> None:
    from backends.engines import cache, paths
    from backends.engines.runner import MERGING

    assert (estimate.TEXT_ROWS, estimate.PICTURE_ROWS) == (cache.TEXT_CHUNK, cache.PICTURE_CHUNK)
    assert estimate.STREAMED_ROWS == paths._STREAMED_CHUNK
    assert estimate._IN_PIECES == MERGING


def test_a_piece_needs_less_than_the_whole_and_a_mask_over_all_tokens() -> None:
    whole, piece = (estimate.text_activation(LLAMA_7B, 4096, FP16, rows) for rows in (None, 128))
    mlp = (4096 + 3 * 11008) * 2

    assert piece == 128 * (4096 * 2 + mlp) + 128 * 4096 * 3 + 64 * MIB
    assert piece < whole / 4


def test_a_piece_repeats_grouped_keys_and_values_of_all_tokens() -> None:
    grouped = estimate.text_activation(GROUPED, 4096, FP16, 128)
    alone = 128 * (4096 * 2 + (4096 + 3 * 14336) * 2) + 128 * 4096 * 3 + 16 * MIB
    assert grouped == alone + 2 * 4096 * 4096 * 2


def test_pictures_one_by_one_need_one_towers_room(models: dict[str, ModelInfo]) -> None:
    model = models["llava-1.5-7b"]
    assert model.vision is not None

    def peak(images: int, *, one_by_one: bool) -> int:
        work = Workload(4096, images, 576)
        assert model.vision is not None
        return estimate.vision_activation(model.vision, model.text, work, 2, one_by_one=one_by_one)

    assert peak(1, one_by_one=True) == peak(1, one_by_one=False)
    # Three more: their pixels and the features that are kept, no second tower.
    more = 3 * (3 * 336**2 * 6 + 576 * 4096 * 2)
    assert peak(4, one_by_one=True) == peak(1, one_by_one=True) + more


def test_dynamic_towers_rotate_in_float32(models: dict[str, ModelInfo]) -> None:
    model = models["qwen2.5-vl-7b"]
    assert model.vision is not None
    work = Workload(2048, 1, 1024)

    found = estimate.vision_activation(model.vision, model.text, work, 2)

    assert found > 4096 * 1280 * (2 * 2 + 3 * 2 + 5 * 4)


def test_ram_keeps_gaps_and_a_table_of_its_pages_and_cards_round_segments_up(llava: ModelInfo) -> None:
    def slack(device: str) -> int:
        found = estimate.share(
            device, device, 0, Load(layers=32),
            text=llava.text, vision=None, work=Workload(2048, 0, 0), precision=FP16, overhead=0,
            family="llava",
        )  # fmt: skip
        shared = int(found.activation_bytes * (0.1 if device == "cpu" else 0.06))
        return found.overhead_bytes - shared

    # A gibibyte of cache: a tenth of it stays in gaps, 8 bytes for 4 KiB are the table.
    assert slack("cpu") == pytest.approx(1024 * MIB * 0.1 + 2 * MIB, abs=MIB)
    assert slack("cuda:0") == 32 * 4 * MIB
