"""What a checkpoint leans on is told by a glance at its folder, whether that is there or not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from backends.models.originals.leaning import leans_on
from tests.support import checkpoints

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures"


@pytest.mark.parametrize(
    ("fixture", "pattern", "fields"),
    [
        ("llava-v1.5-full", "llava-*-tiny", ("vision_tower", "template")),
        ("llava-v1.5-lora", "*-lora", ("base", "vision_tower", "template")),
        ("llava-v1.5-lora", "vicuna-*", ()),
        ("llava-v1.5-projector-only", "*-pretrain-*", ("base", "vision_tower", "template")),
        ("llava-v1.6-vicuna", "llava-*", ("vision_tower", "template")),
        ("cogvlm-chat", "cogvlm-*", ("tokenizer", "template")),
        ("cogvlm2-llama3-chat", "cogvlm2-*", ("template",)),
        ("chatglm3-6b", "chatglm3-*", ("template",)),
    ],
)
def test_of_each_layout(fixture: str, pattern: str, fields: tuple[str, ...], tmp_path: Path) -> None:
    (folder,) = (FIXTURES / fixture / "checkpoint").glob(pattern)
    alone = shutil.copytree(folder, tmp_path / "ein Ordner 模型")
    assert leans_on(folder) == fields
    assert leans_on(alone) == fields, "nothing of it is beside this copy, and its name says nothing"


def test_a_lora_of_todays_layout_has_a_base_and_a_whole_model_nothing(tmp_path: Path) -> None:
    assert leans_on(checkpoints.lora(tmp_path / "lora", "someone/a-model")) == ("base",)
    assert leans_on(checkpoints.llava_15_7b(tmp_path / "llava")) == ()
    assert leans_on(checkpoints.llama(tmp_path / "text")) == ()


@pytest.mark.parametrize("config", [None, "", "{", "[]", "null", '{"mm_vision_tower": ', "\x00" * 9])
def test_a_folder_that_cannot_be_read_leans_on_nothing(config: str | None, tmp_path: Path) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config, encoding="utf-8")
    assert leans_on(tmp_path) == ()
    assert leans_on(tmp_path / "nowhere") == ()


def test_a_projector_beside_whole_weights_is_theirs(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"mm_vision_tower": "openai/clip"}', encoding="utf-8")
    (tmp_path / "mm_projector.bin").write_bytes(b"")
    assert leans_on(tmp_path) == ("base", "vision_tower", "template")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    assert leans_on(tmp_path) == ("vision_tower", "template")
