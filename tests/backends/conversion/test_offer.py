"""What a checkpoint can be converted to: sizes to the byte, what is ready, and refusals in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest

from backends.conversion import layouts
from backends.conversion.cache import stem
from backends.conversion.convert import convert
from backends.conversion.offer import KINDS, makeable, offers, unconverted
from backends.conversion.types import Layout, Request, Variant, WeightType
from backends.models.gguf_header import read_gguf_header
from backends.models.identify import identify
from backends.models.types import ModelInfo, ModuleKind
from tests.support import checkpoints

Folder = Callable[[str], Path]
LIBRARY = "2026.1"


def variant(model: ModelInfo, cache: Path, kind: WeightType, library: str = LIBRARY) -> Variant:
    found = offers(model, cache, library=library)
    assert found.why_not is None
    return next(one for one in found.variants if one.conversion.kind is kind)


def note(folder: Path, cache: Path, layout: Layout, library: str = LIBRARY, compared: str = "model") -> None:
    record = {"layout": layout.value, "library": library, "gaps": {layout.value: 0.1}, "compared": compared}
    layouts.record_of(cache, stem(folder)).write_text(json.dumps(record), encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["starter", "llava", "llama", "mistral", "qwen2"])
def test_sizes_are_those_of_the_files_that_are_made(
    checkpoint: Folder, tmp_path: Path, name: str, kind: WeightType
) -> None:
    folder = checkpoint(name)
    model = identify(folder)
    offered = variant(model, tmp_path, kind)

    layout = Layout.PLAIN if model.vision is not None else None
    made = convert(Request(folder, tmp_path, kind, layout), lambda *_: None, Flag())

    headers = [read_gguf_header(path) for path in (made.text, made.mmproj) if path is not None]
    tensors = [tensor for header in headers for tensor in header.tensors]
    assert offered.model.weights_bytes == sum(tensor.nbytes for tensor in tensors)
    assert sum(module.nbytes for module in offered.model.modules) == offered.model.weights_bytes
    layers = [tensor.nbytes for tensor in tensors if tensor.name.startswith("blk.1.")]
    second = [module for module in offered.model.modules if module.kind is ModuleKind.LAYER][1]
    assert second.nbytes == sum(layers)
    pictures = [
        m.nbytes for m in offered.model.modules if m.kind in (ModuleKind.VISION, ModuleKind.PROJECTOR)
    ]
    there = [tensor.nbytes for header in headers[1:] for tensor in header.tensors]
    assert sum(pictures) == sum(there)
    on_disk = sum(header.file_bytes for header in headers)
    assert on_disk <= offered.conversion.nbytes <= on_disk * 1.1 + 100_000


@pytest.mark.parametrize("name", ["starter", "llava", "llama"])
def test_modules_are_the_checkpoints_own(checkpoint: Folder, tmp_path: Path, name: str) -> None:
    model = identify(checkpoint(name))
    for one in offers(model, tmp_path).variants:
        assert [module.name for module in one.model.modules] == [module.name for module in model.modules]
        assert (one.model.path, one.model.parameters) == (model.path, model.parameters)
        assert (one.model.format, one.model.dtype) == ("gguf", one.conversion.kind.value)
        assert one.model.gguf is not None
        assert (one.model.gguf.mmproj is not None) == (model.vision is not None)
        assert one.model.text.tied_embeddings == model.text.tied_embeddings


def test_a_7b_of_headers_without_a_tokenizer_can_be_planned_with(tmp_path: Path) -> None:
    model = identify(checkpoints.llava_15_7b(tmp_path / "llava"))
    sizes = {
        one.conversion.kind: one.model.weights_bytes for one in offers(model, tmp_path / "cache").variants
    }
    assert list(sizes) == list(KINDS)
    parameters = model.parameters
    assert sizes[WeightType.F16] == pytest.approx(2 * parameters, rel=0.01)
    assert sizes[WeightType.Q8_0] == pytest.approx(34 / 32 * parameters, rel=0.05)
    # Beside the layers, the picture part in 16 bits and the head in 8.
    assert 18 / 32 * parameters < sizes[WeightType.Q4_0] < 0.65 * parameters


def test_a_window_that_slides_is_the_end_of_the_context(tmp_path: Path) -> None:
    folder = checkpoints.llama(tmp_path / "mistral", layers=2)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 4096}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    offered = variant(identify(folder), tmp_path, WeightType.Q8_0)
    assert offered.model.text.max_context == 4096
    assert {module.cache for module in offered.model.modules} == {None}


@pytest.mark.parametrize(
    ("make", "why"),
    [
        pytest.param(checkpoints.llava_16_mistral_7b, "one tile after the other", id="LLaVA-1.6"),
        pytest.param(checkpoints.qwen25_vl_7b, "can't be converted for llama.cpp", id="another family"),
        pytest.param(checkpoints.chatglm3_6b, "authors' own layout", id="in its authors' layout"),
        pytest.param(checkpoints.starter_like, "tokenizer.json is missing", id="whole, and no tokenizer"),
    ],
)
def test_what_can_not_be_converted_is_said(tmp_path: Path, make: Callable[[Path], Path], why: str) -> None:
    found = offers(identify(make(tmp_path / "model")), tmp_path / "cache")
    assert found.variants == ()
    assert why in str(found.why_not)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param({"hidden_act": "gelu"}, id="an activation that llama.cpp lacks"),
        pytest.param({"rope_scaling": {"rope_type": "longrope"}}, id="positions that it counts otherwise"),
        pytest.param({"rms_norm_eps": "much"}, id="a figure of another type"),
        pytest.param({"num_attention_heads": 0}, id="no heads"),
        pytest.param({"rope_scaling": 7}, id="no mapping"),
    ],
)
def test_a_config_of_any_kind_breaks_nothing(tmp_path: Path, damage: dict[str, Any]) -> None:
    folder = checkpoints.llama(tmp_path / "model", layers=2)
    model = identify(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | damage), encoding="utf-8")
    found = offers(model, tmp_path / "cache")
    assert bool(found.variants) != (found.why_not is not None)


def test_a_folder_that_has_gone_is_no_offer(tmp_path: Path) -> None:
    folder = checkpoints.llama(tmp_path / "model", layers=2)
    model = identify(folder)
    for path in folder.iterdir():
        path.unlink()
    assert offers(model, tmp_path).why_not is not None


class TestFolder:
    def test_one_that_can_not_be_written_leaves_nothing_to_convert(
        self, checkpoint: Folder, tmp_path: Path
    ) -> None:
        cache = tmp_path / "a file"
        cache.write_text("no folder", encoding="utf-8")
        found = makeable(offers(identify(checkpoint("llama")), cache), cache)
        assert found.variants == ()
        assert str(cache) in str(found.why_not)

    def test_what_is_ready_stays(
        self, checkpoint: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = checkpoint("llama")
        convert(Request(folder, tmp_path, WeightType.Q8_0), lambda *_: None, Flag())
        found = offers(identify(folder), tmp_path)
        assert makeable(found, tmp_path) == found
        monkeypatch.setattr("backends.conversion.offer.unwritable", lambda _: "Read-only file system")
        left = makeable(found, tmp_path)
        assert [one.conversion.kind for one in left.variants] == [WeightType.Q8_0]

    def test_asking_makes_nothing(self, checkpoint: Folder, tmp_path: Path) -> None:
        cache = tmp_path / "home" / "converted"
        found = offers(identify(checkpoint("llama")), cache)
        assert makeable(found, cache) == found
        assert not cache.parent.exists()


class TestReady:
    def test_text_models_are_ready_once_their_file_is_there(self, checkpoint: Folder, tmp_path: Path) -> None:
        folder = checkpoint("llama")
        model = identify(folder)
        assert not variant(model, tmp_path, WeightType.Q8_0).conversion.ready
        convert(Request(folder, tmp_path, WeightType.Q8_0), lambda *_: None, Flag())
        ready = {one.conversion.kind: one.conversion.ready for one in offers(model, tmp_path).variants}
        assert ready == {WeightType.F16: False, WeightType.Q8_0: True, WeightType.Q4_0: False}

    def test_pictures_need_the_layout_that_was_chosen(self, checkpoint: Folder, tmp_path: Path) -> None:
        folder = checkpoint("starter")
        model = identify(folder)
        convert(Request(folder, tmp_path, WeightType.Q8_0, Layout.ROTATED), lambda *_: None, Flag())
        unknown = variant(model, tmp_path, WeightType.Q8_0).conversion
        assert (unknown.ready, unknown.layout) == (False, None)

        note(folder, tmp_path, Layout.NO_CLASS)
        other = variant(model, tmp_path, WeightType.Q8_0).conversion
        assert (other.ready, other.layout) == (False, Layout.NO_CLASS)

        note(folder, tmp_path, Layout.ROTATED)
        made = variant(model, tmp_path, WeightType.Q8_0).conversion
        assert (made.ready, made.layout) == (True, Layout.ROTATED)
        newer = variant(model, tmp_path, WeightType.Q8_0, library="2027.1").conversion
        assert (newer.ready, newer.layout) == (False, None), "another library may read them otherwise"

    def test_what_was_compared_is_told(self, checkpoint: Folder, tmp_path: Path) -> None:
        folder = checkpoint("starter")
        model = identify(folder)
        convert(Request(folder, tmp_path, WeightType.Q8_0, Layout.ROTATED), lambda *_: None, Flag())
        note(folder, tmp_path, Layout.ROTATED)
        own = variant(model, tmp_path, WeightType.Q8_0).conversion
        assert (own.compared, own.gap) == ("model", 0.1)
        note(folder, tmp_path, Layout.ROTATED, compared="library")
        stood_in = variant(model, tmp_path, WeightType.Q8_0).conversion
        assert (stood_in.compared, stood_in.gap) == ("library", 0.1)
        assert (stood_in.ready, stood_in.compares, own.compares) == (False, True, False), (
            "it is compared again"
        )
        elsewhere = unconverted(offers(model, tmp_path, library=LIBRARY)).variants[0].conversion
        assert (elsewhere.compared, elsewhere.gap) == (None, None)

    def test_only_what_is_missing_counts(self, checkpoint: Folder, tmp_path: Path) -> None:
        folder = checkpoint("starter")
        model = identify(folder)
        whole = variant(model, tmp_path, WeightType.Q8_0).conversion
        request = Request(folder, tmp_path, WeightType.Q8_0, Layout.ROTATED)
        files = convert(request, lambda *_: None, Flag())

        comparing = variant(model, tmp_path, WeightType.Q8_0).conversion
        assert (comparing.ready, comparing.nbytes, comparing.source_bytes) == (False, 0, 0)

        note(folder, tmp_path, Layout.ROTATED)
        made = variant(model, tmp_path, WeightType.Q8_0).conversion
        assert (made.nbytes, made.source_bytes) == (whole.nbytes, whole.source_bytes)
        assert (made.compared, made.gap) == ("model", 0.1)

        other = variant(model, tmp_path, WeightType.Q4_0).conversion
        files.text.unlink()
        text = variant(model, tmp_path, WeightType.Q8_0).conversion
        assert files.mmproj is not None
        assert 0 < whole.nbytes - text.nbytes - files.mmproj.stat().st_size < 100_000
        assert text.source_bytes == other.source_bytes < whole.source_bytes

    def test_a_record_of_no_comparison_is_none(self, checkpoint: Folder, tmp_path: Path) -> None:
        folder = checkpoint("starter")
        note(folder, tmp_path, Layout.NO_CLASS, compared="nothing")
        found = variant(identify(folder), tmp_path, WeightType.Q8_0).conversion
        assert (found.layout, found.compared, found.gap, found.compares) == (None, None, None, True)

    def test_a_damaged_file_is_not_ready(self, checkpoint: Folder, tmp_path: Path) -> None:
        folder = checkpoint("llama")
        model = identify(folder)
        made = convert(Request(folder, tmp_path, WeightType.Q8_0), lambda *_: None, Flag()).text
        assert variant(model, tmp_path, WeightType.Q8_0).conversion.ready
        made.write_bytes(made.read_bytes()[:-100])
        assert not variant(model, tmp_path, WeightType.Q8_0).conversion.ready

    def test_another_machine_has_converted_nothing(self, checkpoint: Folder, tmp_path: Path) -> None:
        folder = checkpoint("starter")
        convert(Request(folder, tmp_path, WeightType.Q8_0, Layout.ROTATED), lambda *_: None, Flag())
        note(folder, tmp_path, Layout.ROTATED)
        elsewhere = unconverted(offers(identify(folder), tmp_path, library=LIBRARY))
        assert {(one.conversion.ready, one.conversion.layout) for one in elsewhere.variants} == {
            (False, None)
        }

    @pytest.mark.parametrize("broken", ["", "{", "[]", '{"layout": "sideways"}', '{"layout": "plain"}'])
    def test_a_record_that_can_not_be_read_is_none(self, tmp_path: Path, broken: str) -> None:
        layouts.record_of(tmp_path, "a").write_text(broken, encoding="utf-8")
        assert layouts.read(tmp_path, "a", LIBRARY) is None
