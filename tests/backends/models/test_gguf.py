"""A GGUF file becomes a ModelInfo with the picture part beside it; every other file gets a clear refusal."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backends.errors import InputError, ModelDamaged, ModelNotFound, ModelUnsupported
from backends.models.identify import ensure_loadable, identify
from backends.models.types import LayerCache, ModuleKind
from tests.support import checkpoints, gguf_files
from tests.support.gguf_files import decoder, tensor_bytes, tower, write_gguf

TINY: dict[str, Any] = {
    "layers": 2, "hidden": 256, "heads": 4, "kv_heads": 2, "intermediate": 512, "vocab": 100, "kind": "q8_0",
    "head_kind": "q8_0", "file_type": "q8_0",
}  # fmt: skip
SMALL_EYES: dict[str, Any] = {"width": 256, "layers": 1, "hidden": 64, "intermediate": 128, "heads": 2}


def tiny(path: Path, family: str = "llama", **more: Any) -> Path:
    return write_gguf(path, *decoder(family, **(TINY | more)))


def eyes(path: Path, projector: str = "mlp", **more: Any) -> Path:
    return write_gguf(path, *tower(projector, **(SMALL_EYES | more)))


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


@pytest.mark.parametrize(
    ("projector", "more", "tokens", "tiles", "dynamic"),
    [
        pytest.param("mlp", {}, 576, 1, False, id="LLaVA-1.5: a token a patch"),
        pytest.param(
            "mlp",
            {"clip.vision.image_grid_pinpoints": [336, 672, 672, 336, 672, 672, 1008, 336]},
            5 * 576,
            5,
            False,
            id="LLaVA-1.6: an overview and four tiles",
        ),
        pytest.param("ldpv2", {}, 144 + 2, 1, False, id="MobileVLM: four patches a token"),
        pytest.param("gemma3", {}, 36 + 2, 1, False, id="Gemma 3: sixteen patches a token"),
        pytest.param(
            "internvl",
            {"clip.vision.projector.scale_factor": 2},
            13 * 146 + 3,
            13,
            False,
            id="InternVL: 12 tiles",
        ),
        pytest.param(
            "idefics3",
            {"clip.vision.projector.scale_factor": 4, "clip.vision.preproc_image_size": 1344},
            17 * 38 + 4,
            17,
            False,
            id="SmolVLM: 16 tiles",
        ),
        pytest.param("resampler", {"clip.minicpmv_version": 3}, 670, 10, False, id="MiniCPM-V: 64 queries"),
        pytest.param(
            "qwen2vl_merger", {}, 4098, 1, True, id="Qwen2-VL: as many as the picture has pixels for"
        ),
        pytest.param("qwen2.5vl_merger", {}, 4098, 1, True, id="Qwen2.5-VL"),
        pytest.param("qwen3vl_merger", {}, 4098, 1, True, id="Qwen3-VL"),
        pytest.param("pixtral", {"clip.vision.spatial_merge_size": 2}, 1024 + 64 + 2, 1, True, id="Pixtral"),
    ],
)
def test_tokens_of_a_picture(
    tmp_path: Path, *, projector: str, more: dict[str, Any], tokens: int, tiles: int, dynamic: bool
) -> None:
    tiny(tmp_path / "model.gguf")
    eyes(tmp_path / "mmproj.gguf", projector, more=more)

    vision = identify(tmp_path).vision

    assert vision is not None
    assert (vision.tokens_per_image, vision.max_tiles, vision.dynamic) == (tokens, tiles, dynamic)


class TestWhichFiles:
    def test_a_folder_with_one_model_stands_for_it(self, tmp_path: Path) -> None:
        file = gguf_files.llava_15_7b(tmp_path)

        assert identify(tmp_path) == identify(file)

    def test_a_folder_with_several_models_asks_for_one(self, tmp_path: Path) -> None:
        for name in ("a-Q4_K_M.gguf", "a-Q8_0.gguf"):
            tiny(tmp_path / name)

        with pytest.raises(ModelNotFound, match=r"2 GGUF models \(a-Q4_K_M, a-Q8_0\)"):
            identify(tmp_path)

    def test_a_config_beside_the_file_does_no_harm(self, tmp_path: Path) -> None:
        tiny(tmp_path / "model.gguf")
        (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")

        assert identify(tmp_path).format == "gguf"

    def test_safetensors_come_first_where_a_folder_has_both(self, tmp_path: Path) -> None:
        folder = checkpoints.starter_like(tmp_path / "m")
        tiny(folder / "model.gguf")

        assert identify(folder).format == "safetensors"
        assert identify(folder / "model.gguf").format == "gguf"

    def test_a_file_without_an_ending(self, tmp_path: Path) -> None:
        path = tiny(tmp_path / "sha256-0a1b")

        assert identify(path).path == path

    def test_paths_with_spaces_and_chinese_characters(self, tmp_path: Path) -> None:
        assert identify(tiny(tmp_path / "my models" / "模型 甲.gguf")).name == "模型 甲"

    def test_of_several_picture_parts_the_one_that_fits(self, tmp_path: Path) -> None:
        path = tiny(tmp_path / "model.gguf")
        eyes(tmp_path / "mmproj-a.gguf", width=512)
        eyes(tmp_path / "mmproj-b.gguf")

        model = identify(path)

        assert model.gguf is not None
        assert model.gguf.mmproj == "mmproj-b.gguf"

    def test_of_several_precisions_sixteen_bits(self, tmp_path: Path) -> None:
        path = tiny(tmp_path / "model.gguf")
        for kind in ("bf16", "f16", "f32"):
            eyes(tmp_path / f"mmproj-{kind}.gguf", kind=kind)

        model = identify(path)

        assert model.gguf is not None
        assert model.gguf.mmproj == "mmproj-f16.gguf"

    def test_in_a_folder_of_many_models_the_one_of_the_same_name(self, tmp_path: Path) -> None:
        for name in ("apple-2b-Q8_0", "pear-2b-Q8_0"):
            tiny(tmp_path / f"{name}.gguf")
        eyes(tmp_path / "mmproj-apple-2b-f16.gguf")
        eyes(tmp_path / "mmproj-pear-2b-f16.gguf")

        model = identify(tmp_path / "pear-2b-Q8_0.gguf")

        assert model.gguf is not None
        assert model.gguf.mmproj == "mmproj-pear-2b-f16.gguf"

    def test_ears_are_no_eyes(self, tmp_path: Path) -> None:
        path = tiny(tmp_path / "model.gguf")
        metadata, tensors = tower("ultravox", **SMALL_EYES)
        write_gguf(tmp_path / "mmproj.gguf", metadata | {"clip.has_vision_encoder": False}, tensors)

        assert identify(path).vision is None


class TestSplitSets:
    def parts(self, folder: Path, count: int = 3, stated: int | None = None) -> list[Path]:
        metadata, tensors = decoder(**TINY)
        size = -(-len(tensors) // count)
        found = []
        for index in range(count):
            head = metadata if index == 0 else {"general.architecture": "llama"}
            pairs = head | {"split.no": index, "split.count": stated or count}
            path = folder / f"model-{index + 1:05}-of-{count:05}.gguf"
            found.append(write_gguf(path, pairs, tensors[index * size : (index + 1) * size]))
        return found

    def test_any_part_stands_for_the_set(self, tmp_path: Path) -> None:
        parts = self.parts(tmp_path)
        whole = identify(tiny(tmp_path / "other" / "model.gguf"))

        for named in (*parts, tmp_path):
            model = identify(named)
            assert (model.name, model.path) == ("model", parts[0])
            assert (model.parameters, model.modules) == (whole.parameters, whole.modules)
            assert [file.path for file in model.files] == [part.name for part in parts]

    def test_the_picture_part_beside_a_set(self, tmp_path: Path) -> None:
        parts = self.parts(tmp_path)
        eyes(tmp_path / "mmproj.gguf")

        assert identify(parts[1]).vision is not None

    def test_a_missing_part_is_named(self, tmp_path: Path) -> None:
        parts = self.parts(tmp_path)
        parts[1].unlink()

        with pytest.raises(ModelDamaged, match=r"1 of the 3 parts .* model-00002-of-00003\.gguf"):
            identify(parts[0])

    def test_a_set_that_says_it_has_more_parts(self, tmp_path: Path) -> None:
        with pytest.raises(ModelDamaged, match="has 4 parts, and by its name it has 3"):
            identify(self.parts(tmp_path, stated=4)[0])

    def test_a_part_that_repeats_another(self, tmp_path: Path) -> None:
        parts = self.parts(tmp_path)
        shutil.copy(parts[0], parts[2])

        with pytest.raises(ModelDamaged, match="belongs to another set"):
            identify(parts[0])

    def test_a_part_of_a_set_of_none(self, tmp_path: Path) -> None:
        path = tiny(tmp_path / "model-00005-of-00003.gguf")

        with pytest.raises(ModelDamaged, match="not a possible name"):
            identify(path)


def _garbage(folder: Path) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(b"<html>404</html>" * 10)
    return path


def _without(key: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        metadata, tensors = decoder(**TINY)
        del metadata[key]
        return write_gguf(folder / "model.gguf", metadata, tensors)

    return make


def _cut(folder: Path) -> Path:
    path = tiny(folder / "model.gguf")
    path.write_bytes(path.read_bytes()[:1000])
    return path


def _half_downloaded(folder: Path) -> Path:
    path = write_gguf(folder / "model.gguf", *decoder(**TINY), weights=True)
    path.write_bytes(path.read_bytes()[:-100_000])
    return path


def _layer_missing(folder: Path) -> Path:
    metadata, tensors = decoder(**TINY)
    return write_gguf(
        folder / "model.gguf", metadata, [one for one in tensors if not one[0].startswith("blk.1")]
    )


def _foreign_eyes(folder: Path) -> Path:
    eyes(folder / "mmproj.gguf", width=512)
    return tiny(folder / "model.gguf")


def _damaged_eyes(folder: Path) -> Path:
    (folder / "mmproj.gguf").write_bytes(b"GGUF")
    return tiny(folder / "model.gguf")


def _strange_eyes(folder: Path) -> Path:
    eyes(folder / "mmproj.gguf", "thirdeye")
    return tiny(folder / "model.gguf")


@pytest.mark.parametrize(
    ("make", "kind", "sentence"),
    [
        pytest.param(_garbage, ModelDamaged, "not a GGUF file", id="garbage"),
        pytest.param(_cut, ModelDamaged, "ends within its header", id="cut within the header"),
        pytest.param(_half_downloaded, ModelDamaged, "100,000 of its", id="half of a download"),
        pytest.param(
            _without("general.architecture"), ModelDamaged, "names no architecture", id="no architecture"
        ),
        pytest.param(_without("llama.block_count"), ModelDamaged, "does not tell .* sizes", id="no layers"),
        pytest.param(
            _without("llama.embedding_length"), ModelDamaged, "does not tell .* sizes", id="no width"
        ),
        pytest.param(
            _layer_missing, ModelDamaged, "holds 1 decoder layers .* say 2", id="a layer is missing"
        ),
        pytest.param(
            lambda folder: tiny(folder / "m.gguf", more={"llama.embedding_length": 512}),
            ModelDamaged,
            "width of 256, .* of 512",
            id="another width than it says",
        ),
        pytest.param(
            lambda folder: tiny(folder / "m.gguf", "mamba"), ModelUnsupported, "mamba", id="a recurrent model"
        ),
        pytest.param(
            lambda folder: tiny(folder / "m.gguf", "bert"), ModelUnsupported, "bert", id="an encoder"
        ),
        pytest.param(
            lambda folder: tiny(folder / "m.gguf", "qwen33"),
            ModelUnsupported,
            "nearest known one is qwen3",
            id="unheard of",
        ),
        pytest.param(
            lambda folder: eyes(folder / "mmproj.gguf"),
            ModelUnsupported,
            "without its language model",
            id="mmproj alone",
        ),
        pytest.param(
            lambda folder: eyes(folder / "mmproj.gguf").parent,
            ModelUnsupported,
            "without its language model",
            id="a folder with an mmproj alone",
        ),
        pytest.param(
            lambda folder: tiny(folder / "lora.gguf", more={"general.type": "adapter"}),
            ModelUnsupported,
            "lora.gguf is an adapter",
            id="a LoRA",
        ),
        pytest.param(
            _foreign_eyes, ModelDamaged, "width 512, and this one has 256", id="mmproj of another model"
        ),
        pytest.param(_damaged_eyes, ModelDamaged, "has 4 bytes", id="a damaged mmproj"),
        pytest.param(_strange_eyes, ModelUnsupported, "thirdeye", id="an unknown projector"),
    ],
)
def test_files_that_are_refused(
    tmp_path: Path, make: Callable[[Path], Path], kind: type[InputError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        identify(make(tmp_path))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        pytest.param("mm.2.weight", (512, 64), id="the last of an MLP: LLaVA, Qwen-VL"),
        pytest.param("mm.model.mlp.3.weight", (512, 64), id="InternVL"),
        pytest.param("mm.model.fc.weight", (512, 64), id="SmolVLM"),
        pytest.param("mm.input_projection.weight", (64, 512), id="Gemma 3"),
        pytest.param("resampler.proj.weight", (512, 512), id="MiniCPM-V"),
    ],
)
def test_the_width_that_a_projector_gives_out(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    metadata, tensors = tower(**SMALL_EYES)
    kept = [entry for entry in tensors if not entry[0].startswith("mm.")]
    write_gguf(tmp_path / "mmproj.gguf", metadata, [*kept, (name, shape, "f16")])

    with pytest.raises(ModelDamaged, match="width 512, and this one has 256"):
        identify(tiny(tmp_path / "model.gguf"))


def test_an_mmproj_of_another_model_is_nothing_to_a_folder_of_many(tmp_path: Path) -> None:
    path = tiny(tmp_path / "small.gguf")
    tiny(tmp_path / "large.gguf", hidden=512)
    eyes(tmp_path / "mmproj-large.gguf", width=512)

    assert identify(path).vision is None


def test_it_can_be_planned_with_and_not_loaded_yet(tmp_path: Path) -> None:
    model = identify(write_gguf(tmp_path / "m.gguf", *decoder(**TINY), weights=True))

    assert model.weights_present
    with pytest.raises(ModelUnsupported, match="can plan with it, but can't load it yet"):
        ensure_loadable(model)


def test_neither_torch_nor_numpy_is_imported_for_it(tmp_path: Path) -> None:
    path = tiny(tmp_path / "m.gguf")
    code = (
        "import sys; from pathlib import Path; from backends.models.identify import identify; "
        f"identify(Path({str(path)!r})); print(sorted({{'torch', 'numpy', 'gguf'}} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[3]

    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
