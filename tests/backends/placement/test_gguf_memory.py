"""What a GGUF model takes under llama.cpp: exact weights, its cache, its buffers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.models.identify import identify
from backends.models.types import ModelInfo, ModuleKind, VisionGeometry
from backends.placement import gguf_memory
from backends.placement.estimate import Workload
from tests.support.gguf_plans import (
    LAPTOP,
    MAKERS,
    SIX_GB,
    TWENTY_FOUR_GB,
    TWO_8_GB,
    case_of,
    made,
    share,
)
from tests.support.machines import MIB


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelInfo]:
    folder = tmp_path_factory.mktemp("gguf")
    return {name: identify(make(folder / name)) for name, make in MAKERS.items()}


class TestWeights:
    def test_on_the_cpu_they_are_header_and_mmproj(self, found: dict[str, ModelInfo]) -> None:
        model = found["llava"]

        assert share(made(model, LAPTOP), "cpu").weights_bytes == model.weights_bytes

    def test_on_a_gpu_the_embedding_stays_in_ram(self, found: dict[str, ModelInfo]) -> None:
        model = found["llava"]
        embedding = next(module.nbytes for module in model.modules if module.kind is ModuleKind.EMBED)
        result = made(model, TWENTY_FOUR_GB)

        assert dict(result.device_map)["token_embd"] == "cpu"
        assert share(result, "cpu").weights_bytes == embedding
        assert share(result, "cuda:0").weights_bytes == model.weights_bytes - embedding

    def test_a_tied_head_is_a_second_copy_on_the_gpu(self, found: dict[str, ModelInfo]) -> None:
        model = found["gemma"]
        result = made(model, TWENTY_FOUR_GB)

        assert share(result, "cuda:0").weights_bytes == model.weights_bytes
        assert share(made(model, LAPTOP), "cpu").weights_bytes == model.weights_bytes

    def test_nothing_is_converted_while_loading(self, found: dict[str, ModelInfo]) -> None:
        result = made(found["llava"], LAPTOP)

        assert result.load_peak_ram_bytes <= share(result, "cpu").total_bytes


class TestCache:
    def test_two_bytes_a_number_of_a_context_that_is_rounded_up(self, found: dict[str, ModelInfo]) -> None:
        result = made(found["llava"], LAPTOP, context_tokens=2000)

        assert share(result, "cpu").kv_cache_bytes == 32 * 2 * 32 * 128 * 2 * 2048

    def test_grouped_heads_keep_less(self, found: dict[str, ModelInfo]) -> None:
        result = made(found["qwen"], LAPTOP, context_tokens=4096)

        assert share(result, "cpu").kv_cache_bytes == 28 * 2 * 4 * 128 * 2 * 4096

    def test_windows_keep_themselves_and_the_rows_of_a_pass(self, found: dict[str, ModelInfo]) -> None:
        result = made(found["gemma"], LAPTOP, context_tokens=16_384)

        full, windowed = 5, 29
        assert share(result, "cpu").kv_cache_bytes == 2 * 2048 * (full * 16_384 + windowed * (1024 + 512))

    def test_it_follows_the_layers(self, found: dict[str, ModelInfo]) -> None:
        result = made(found["llava"], SIX_GB)
        each = 2 * 32 * 128 * 2 * 2048

        assert share(result, "cuda:0").kv_cache_bytes == result.gpu_layers * each
        assert share(result, "cpu").kv_cache_bytes == (32 - result.gpu_layers) * each


class TestBuffers:
    """Beside what llama.cpp reported itself (xllamacpp 2026.10.11549, CPU, flash attention)."""

    @pytest.mark.parametrize(
        ("name", "context", "reported_mib"),
        [("llava", 2048, 106.52), ("llava", 4096, 108.52), ("qwen", 8192, 154.02), ("mixtral", 4096, 212.02)],
    )
    def test_the_decoders_is_llama_cpps_own(
        self, found: dict[str, ModelInfo], name: str, context: int, reported_mib: float
    ) -> None:
        text = replace(found[name].text, vocab=0, max_context=context)

        ours = gguf_memory.text_buffer(text, Workload(context, 0, 0))

        assert ours == pytest.approx(reported_mib * MIB, rel=0.001)

    @pytest.mark.parametrize(
        ("hidden", "intermediate", "patches", "side", "merge", "reported_mib"),
        [
            pytest.param(1024, 4096, 577, 336, 1, 21.55, id="CLIP-L"),
            pytest.param(1152, 4304, 4096, 896, 4, 121.25, id="Gemma 3's SigLIP"),
            pytest.param(1280, 5120, 92 * 92, 1288, 2, 267.08, id="Qwen2-VL's tower"),
        ],
    )
    def test_the_towers_is_close(
        self,
        found: dict[str, ModelInfo],
        *,
        hidden: int,
        intermediate: int,
        patches: int,
        side: int,
        merge: int,
        reported_mib: float,
    ) -> None:
        vision = VisionGeometry(
            layers=2,
            hidden=hidden,
            intermediate=intermediate,
            heads=16,
            image_size=side,
            patch_size=14,
            patches=patches,
            tokens_per_image=patches // merge**2,
            merge=merge,
        )
        widths = {1024: 4096, 1152: 2560, 1280: 3584}
        text = replace(found["llava"].text, hidden=widths[hidden])
        model = replace(found["llava"], vision=vision, text=text)
        asked = replace(case_of(model), work=Workload(4096, 1, vision.tokens_per_image))
        features = vision.tokens_per_image * text.hidden * 4

        assert gguf_memory.picture_buffer(asked) - features == pytest.approx(reported_mib * MIB, rel=0.04)

    def test_windows_of_the_tower_take_a_matrix_of_the_patches(self, found: dict[str, ModelInfo]) -> None:
        model = found["qwen"]
        assert model.gguf is not None
        plain = replace(model, gguf=replace(model.gguf, window_mask=False))
        patches = 1282 * 4

        with_mask, without = (gguf_memory.picture_buffer(case_of(one)) for one in (model, plain))

        assert with_mask - without == patches**2 * 6

    def test_no_picture_needs_none(self, found: dict[str, ModelInfo]) -> None:
        assert gguf_memory.picture_buffer(case_of(found["llava"], images=0)) == 0
        assert gguf_memory.picture_buffer(case_of(found["mixtral"])) == 0

    def test_several_gpus_keep_copies_of_the_inputs(self, found: dict[str, ModelInfo]) -> None:
        model = found["qwen"]
        result = made(model, TWO_8_GB, "high")
        work = Workload(result.context_tokens, 1, result.image_tokens)
        text = gguf_memory.text_buffer(model.text, work)

        extra = share(result, "cuda:1").activation_bytes - text
        assert extra == 3 * gguf_memory.input_buffer(model.text, work)

    def test_matrices_in_ram_visit_the_gpu_for_long_prompts(self, found: dict[str, ModelInfo]) -> None:
        model = found["mixtral"]
        assert model.gguf is not None

        assert share(made(model, TWENTY_FOUR_GB), "cuda:0").staging_bytes == model.gguf.largest_matrix_bytes
        assert share(made(found["llava"], TWENTY_FOUR_GB), "cuda:0").staging_bytes == 0
