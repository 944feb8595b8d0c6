"""Which files make up a GGUF model: the picture part beside it, and sets of several parts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from backends.errors import ModelDamaged, ModelNotFound
from backends.models.identify import identify
from tests.support import checkpoints, gguf_files
from tests.support.gguf_files import SMALL_EYES, TINY, decoder, eyes, tiny, tower, write_gguf


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


def test_an_mmproj_of_another_model_is_nothing_to_a_folder_of_many(tmp_path: Path) -> None:
    path = tiny(tmp_path / "small.gguf")
    tiny(tmp_path / "large.gguf", hidden=512)
    eyes(tmp_path / "mmproj-large.gguf", width=512)

    assert identify(path).vision is None
