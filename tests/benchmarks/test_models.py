"""Random checkpoints of every family can be planned, loaded and asked."""

from __future__ import annotations

import hashlib
from pathlib import Path
from threading import Event

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from backends.engines.base import ChatRequest
from backends.engines.transformers_engine import TransformersEngine
from backends.messages import Done, ImagePart, Message, Part, Role, SamplingParams, TextPart
from backends.models.identify import identify
from benchmarks.models import Shape, checkpoint, parameters
from tests.support.plans import make_plan

SHAPES = {
    "llama": Shape("tiny-llama", 32, 64, 2, 2, vocab=700, family="llama"),
    "llava": Shape("tiny-llava", 32, 64, 2, 2, vocab=700),
    "dynamic": Shape("tiny-dynamic", 64, 96, 2, 2, vocab=700, family="dynamic", kv_heads=1, side=112),
}


def picture(folder: Path) -> ImagePart:
    path = folder / "noise.png"
    Image.effect_noise((112, 112), 30).convert("RGB").save(path)
    return ImagePart(path, hashlib.sha256(path.read_bytes()).hexdigest(), 112, 112)


@pytest.mark.parametrize("family", SHAPES)
def test_it_is_planned_loaded_and_answers(family: str, tmp_path: Path) -> None:
    shape = SHAPES[family]
    folder = checkpoint(shape, tmp_path)
    info = identify(folder)
    parts: list[Part] = [TextPart("What is this?")]
    if family != "llama":
        parts.insert(0, picture(tmp_path))
    engine = TransformersEngine()
    engine.load(make_plan(folder, precision="bf16", context_tokens=1024), lambda _: None, Event())

    message = (Message(Role.USER, tuple(parts)),)
    request = ChatRequest("", message, SamplingParams(temperature=0.0, max_tokens=4))
    *_, done = engine.chat(request, Event())
    engine.close()

    assert (info.layers, info.dtype, info.parameters) == (2, "bfloat16", parameters(folder))
    assert info.vision is None or info.vision.dynamic is (family == "dynamic")
    assert isinstance(done, Done)
    assert len(done.token_ids) == 4
    assert checkpoint(shape, tmp_path) == folder  # written once


def test_a_dynamic_family_answers_as_generate_does(tmp_path: Path) -> None:
    folder = checkpoint(SHAPES["dynamic"], tmp_path)
    part = picture(tmp_path)
    engine = TransformersEngine()
    engine.load(make_plan(folder, precision="fp32", context_tokens=1024), lambda _: None, Event())
    message = (Message(Role.USER, (part, TextPart("What is this?"))),)
    *_, done = engine.chat(ChatRequest("", message, SamplingParams(temperature=0.0, max_tokens=6)), Event())
    engine.close()
    assert isinstance(done, Done)

    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(folder, backend="pil")
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}]
    text = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[text], images=[[Image.open(part.path)]], return_tensors="pt")
    made = model.generate(**inputs, do_sample=False, max_new_tokens=6)

    assert list(done.token_ids) == made[0, inputs["input_ids"].shape[1] :].tolist()
