"""A GGUF file becomes a ModelInfo with the picture part beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from backends.errors import ModelDamaged
from backends.models.identify import ensure_loadable, identify
from backends.models.types import LayerCache, ModuleKind
from tests.support import gguf_files
from tests.support.gguf_files import TINY, decoder, tensor_bytes, tiny, tower, write_gguf


def test_llava_is_known_from_its_two_files(tmp_path: Path) -> None:
    model = identify(gguf_files.llava_15_7b(tmp_path))

    assert (model.name, model.family, model.format, model.dtype) == (
        "llava-v1.5-7b-Q4_K_M",
        "llama",
        "gguf",
        "q4_k_m",
    )
    assert (model.text.hidden, model.text.layers, model.text.heads, model.text.kv_heads) == (4096, 32, 32, 32)
    assert (model.text.intermediate, model.text.head_dim, model.text.vocab) == (11008, 128, 32064)
    assert (model.text.max_context, model.text.tied_embeddings) == (4096, False)
    assert model.vision is not None
    assert (model.vision.tokens_per_image, model.vision.patches, model.vision.image_size) == (576, 577, 336)
    assert model.gguf is not None
    assert model.gguf.mmproj == "llava-v1.5-7b-mmproj-f16.gguf"
    assert model.gguf.chat_template
    assert [file.path for file in model.files] == [model.path.name, model.gguf.mmproj]
    assert not model.weights_present


def test_sizes_are_the_tensors_own(tmp_path: Path) -> None:
    model = identify(gguf_files.llava_15_7b(tmp_path))
    modules = {module.name: module for module in model.modules}

    matrices = 4 * 4096 * 4096 + 3 * 4096 * 11008
    assert modules["blk.0"].parameters == matrices + 2 * 4096
    assert modules["blk.0"].nbytes == matrices // 256 * 144 + 2 * 4096 * 4
    assert modules["token_embd"].nbytes == 32064 * 4096 // 256 * 144
    assert modules["output"].nbytes == 32064 * 4096 // 256 * 210
    assert modules["mmproj"].nbytes == sum(tensor_bytes(shape, kind) for _, shape, kind in tower()[1])
    assert model.weights_bytes == sum(module.nbytes for module in model.modules)
    assert model.gguf is not None
    assert model.gguf.largest_matrix_bytes == 4096 * 11008 // 256 * 144


def test_modules_are_in_execution_order(tmp_path: Path) -> None:
    model = identify(gguf_files.llava_15_7b(tmp_path))

    names = [module.name for module in model.modules]
    assert names == [
        "mmproj",
        "token_embd",
        *(f"blk.{layer}" for layer in range(32)),
        "output_norm",
        "output",
    ]
    kinds = [module.kind for module in model.modules]
    assert (kinds[0], kinds[1], kinds[2]) == (ModuleKind.VISION, ModuleKind.EMBED, ModuleKind.LAYER)
    assert kinds[-2:] == [ModuleKind.NORM, ModuleKind.HEAD]


def test_tensors_that_are_shared_by_all_layers_come_first(tmp_path: Path) -> None:
    metadata, tensors = decoder(**TINY)
    path = write_gguf(tmp_path / "m.gguf", metadata, [("rope_freqs.weight", (32,), "f32"), *tensors])

    first = identify(path).modules[0]

    assert (first.name, first.kind, first.nbytes) == ("rope_freqs", ModuleKind.OTHER, 128)


def test_a_model_without_a_picture_part_reads_text_only(tmp_path: Path) -> None:
    model = identify(gguf_files.llava_15_7b(tmp_path, pictures=False))

    assert model.vision is None
    assert model.gguf is not None
    assert model.gguf.mmproj is None


def test_a_tied_head_is_a_module_without_weights(tmp_path: Path) -> None:
    model = identify(gguf_files.gemma3_4b(tmp_path))

    head = model.modules[-1]
    assert (head.name, head.kind, head.parameters, head.nbytes) == ("output", ModuleKind.HEAD, 0, 0)
    assert model.text.tied_embeddings


def test_experts_that_a_token_does_not_visit_are_idle(tmp_path: Path) -> None:
    model = identify(gguf_files.mixtral_8x7b(tmp_path))
    layer = next(module for module in model.modules if module.kind is ModuleKind.LAYER)

    routed = 8 * 3 * 4096 * 14336
    assert layer.idle_parameters == routed * 6 // 8
    assert model.text.intermediate == 2 * 14336
    assert model.active_parameters < model.parameters // 3


def test_shared_experts_widen_the_mlp(tmp_path: Path) -> None:
    more = {
        "qwen2moe.expert_feed_forward_length": 96,
        "qwen2moe.expert_shared_feed_forward_length": 160,
    }
    path = tiny(tmp_path / "m.gguf", "qwen2moe", experts=4, visited=2, more=more)

    assert identify(path).text.intermediate == max(512, 2 * 96 + 160)


class TestCaches:
    def caches(self, path: Path) -> list[LayerCache | None]:
        return [module.cache for module in identify(path).modules if module.kind is ModuleKind.LAYER]

    def test_keys_and_values_of_grouped_heads(self, tmp_path: Path) -> None:
        assert self.caches(gguf_files.qwen25_vl_7b(tmp_path)) == [LayerCache(2 * 4 * 128)] * 28

    def test_gemma_3_keeps_a_window_in_five_of_six_layers(self, tmp_path: Path) -> None:
        caches = self.caches(gguf_files.gemma3_4b(tmp_path))

        assert caches[:7] == [LayerCache(2048, 1024)] * 5 + [LayerCache(2048), LayerCache(2048, 1024)]

    def test_layers_may_state_their_windows(self, tmp_path: Path) -> None:
        more = {
            "llama.attention.sliding_window": 64,
            "llama.attention.sliding_window_pattern": [False, True],
        }
        windows = [cache.window for cache in self.caches(tiny(tmp_path / "m.gguf", more=more)) if cache]

        assert windows == [None, 64]

    def test_phi_3_states_a_window_that_llama_cpp_does_not_use(self, tmp_path: Path) -> None:
        path = tiny(tmp_path / "m.gguf", "phi3", more={"phi3.attention.sliding_window": 64})

        assert self.caches(path) == [LayerCache(2 * 2 * 64)] * 2

    def test_layers_may_have_different_heads(self, tmp_path: Path) -> None:
        path = tiny(tmp_path / "m.gguf", more={"llama.attention.head_count_kv": [1, 4]})

        assert self.caches(path) == [LayerCache(2 * 64), LayerCache(2 * 4 * 64)]

    def test_values_may_be_narrower_than_keys(self, tmp_path: Path) -> None:
        path = tiny(tmp_path / "m.gguf", "deepseek2", more={"deepseek2.attention.value_length": 32})

        assert self.caches(path) == [LayerCache(2 * (64 + 32))] * 2


@pytest.mark.parametrize(
    "family", ["llama", "qwen2", "qwen2vl", "qwen3", "qwen3moe", "gemma2", "phi3", "gpt-oss"]
)
def test_architectures_name_their_sizes_after_themselves(tmp_path: Path, family: str) -> None:
    model = identify(tiny(tmp_path / "m.gguf", family))

    assert (model.family, model.text.hidden, model.text.kv_heads, model.text.layers) == (family, 256, 2, 2)


@pytest.mark.parametrize(
    ("file_type", "precision"),
    [
        ("q8_0", "q8_0"),
        ("q4_k_m", "q4_k_m"),
        ("f16", "f16"),
        ("bf16", "bf16"),
        ("f32", "f32"),
        ("iq4_xs", "iq4_xs"),
    ],
)
def test_the_precision_is_the_mixture_that_the_file_states(
    tmp_path: Path, file_type: str, precision: str
) -> None:
    assert identify(tiny(tmp_path / "m.gguf", file_type=file_type)).dtype == precision


def test_the_precision_of_a_file_that_states_none_is_that_of_most_bytes(tmp_path: Path) -> None:
    metadata, tensors = decoder(**(TINY | {"kind": "mxfp4"}))
    del metadata["general.file_type"]

    assert identify(write_gguf(tmp_path / "m.gguf", metadata, tensors)).dtype == "mxfp4"


def test_a_missing_chat_template_is_known(tmp_path: Path) -> None:
    metadata, tensors = decoder(**TINY)
    del metadata["tokenizer.chat_template"]
    model = identify(write_gguf(tmp_path / "m.gguf", metadata, tensors))

    assert model.gguf is not None
    assert not model.gguf.chat_template


def test_a_whole_file_can_be_loaded_and_a_header_alone_can_not(tmp_path: Path) -> None:
    model = identify(write_gguf(tmp_path / "m.gguf", *decoder(**TINY), weights=True))

    assert model.weights_present
    ensure_loadable(model)
    with pytest.raises(ModelDamaged, match="headers only"):
        ensure_loadable(identify(write_gguf(tmp_path / "h.gguf", *decoder(**TINY))))


def test_neither_torch_nor_numpy_is_imported_for_it(tmp_path: Path) -> None:
    path = tiny(tmp_path / "m.gguf")
    code = (
        "import sys; from pathlib import Path; from backends.models.identify import identify; "
        f"identify(Path({str(path)!r})); print(sorted({{'torch', 'numpy', 'gguf'}} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[3]

    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
