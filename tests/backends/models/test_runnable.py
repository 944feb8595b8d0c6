"""Families that this version can't answer with are refused by name, before anything is planned or loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.errors import ModelUnsupported
from backends.models.defaults import completed
from backends.models.identify import identify
from backends.models.registry import known_types
from backends.models.runnable import ensure_runnable
from tests.support.shapes import write_model

CACHE, PICTURES = "keeps what it has read in a way of its own", "takes pictures in a way that this version"
TWO_PARTS = "reads with one part and writes with another"


@pytest.mark.parametrize(
    ("family", "architecture", "sentence"),
    [
        ("florence2", "Florence2ForConditionalGeneration", TWO_PARTS),
        ("bart", "BartForConditionalGeneration", TWO_PARTS),
        ("whisper", "WhisperForConditionalGeneration", TWO_PARTS),
        ("pix2struct", "Pix2StructForConditionalGeneration", TWO_PARTS),
        ("vision-encoder-decoder", "VisionEncoderDecoderModel", TWO_PARTS),
        ("blip", "BlipForConditionalGeneration", CACHE),
        ("blip-2", "Blip2ForConditionalGeneration", CACHE),
        ("instructblip", "InstructBlipForConditionalGeneration", CACHE),
        ("mamba", "MambaForCausalLM", CACHE),
        ("xlstm", "xLSTMForCausalLM", CACHE),
        ("emu3", "Emu3ForConditionalGeneration", PICTURES),
        ("chameleon", "ChameleonForConditionalGeneration", PICTURES),
        ("fuyu", "FuyuForCausalLM", PICTURES),
    ],
)
def test_what_can_t_be_run_is_refused(family: str, architecture: str, sentence: str, tmp_path: Path) -> None:
    folder = write_model(
        tmp_path / "m",
        {"model_type": family, "architectures": [architecture]},
        {"model.layers.0.self_attn.q_proj.weight": (8, 8)},
    )

    with pytest.raises(ModelUnsupported, match=sentence) as refusal:
        identify(folder)
    assert architecture in str(refusal.value)


@pytest.mark.parametrize(
    ("family", "architecture"),
    [
        ("llava", "LlavaForConditionalGeneration"),
        ("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration"),
        ("mllama", "MllamaForConditionalGeneration"),
        ("gemma3", "Gemma3ForConditionalGeneration"),
        ("gemma4", "Gemma4ForConditionalGeneration"),
        ("mistral4", "Mistral4ForCausalLM"),
        ("qwen3_next", "Qwen3NextForCausalLM"),
        ("llama", "LlamaForCausalLM"),
        ("llama", "SomebodysLlama"),
        ("falcon_h1", "FalconH1ForCausalLM"),
    ],
)
def test_decoders_are_not(family: str, architecture: str) -> None:
    ensure_runnable("m", completed({"model_type": family}), family, architecture)


def test_an_unknown_family_gets_the_chance_that_other_checks_leave_it() -> None:
    ensure_runnable("m", {"model_type": "never_heard"}, "never_heard", "NeverHeardForCausalLM")


def test_most_that_look_at_pictures_can_be_run() -> None:
    def runs(family: str) -> bool:
        try:
            ensure_runnable("m", completed({"model_type": family}), family, family)
        except ModelUnsupported:
            return False
        return True

    chat = known_types().chat
    assert sum(map(runs, chat)) >= 0.8 * len(chat)
