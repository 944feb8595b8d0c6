"""llama.cpp answers with a converted model what transformers answers with the checkpoint."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from backends.conversion.checkpoint import open_checkpoint
from backends.conversion.types import Layout, WeightType
from backends.conversion.writer import write_document
from tests.backends.conversion.conftest import Convert, Folder
from tests.support.llama_library import ask_library
from tests.support.tiny_models import SPECIALS

pytest.importorskip("xllamacpp", reason="the library is installed with the project's dependencies")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="asks the library through a local socket")

QUESTIONS = ("What can you do?", "How many circles are there?", "Hello!", "Who are you?", "Is it red?")
TEXTS = (
    "How many people are wearing red?",
    "It's 12345 o'clock,\n\n  and\tI'LL  go.",
    "那只猫 — naïve café 🙂",
    "  two spaces before, one after ",
    "x",
)
TOKENS = 24


def prompt(question: str) -> str:
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def greedy(model: Any, tokenizer: Any, text: str) -> list[int]:
    """The ids that transformers answers with, the end included."""
    ids = tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        made = model.generate(**ids, max_new_tokens=TOKENS, do_sample=False, pad_token_id=0)
    return [int(number) for number in made[0, ids["input_ids"].shape[1] :]]


def until_end(ids: list[int], end: int) -> list[int]:
    """Up to the end of the turn, or `<|endoftext|>`, which ends every model's answer for llama.cpp."""
    stops = [ids.index(stop) for stop in (end, SPECIALS.index("<|endoftext|>")) if stop in ids]
    return ids[: min(stops, default=len(ids))]


@pytest.mark.parametrize("kind", [WeightType.F32, WeightType.F16, WeightType.Q8_0])
def test_the_starter(checkpoint: Folder, converted: Convert, tmp_path: Path, kind: WeightType) -> None:
    folder = checkpoint("starter")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = [prompt(question) for question in QUESTIONS]
    theirs = [until_end(greedy(model, tokenizer, text), 2) for text in prompts]
    answers = ask_library(converted("starter", kind=kind).text, tmp_path, prompts=prompts, tokens=TOKENS)
    ours = [until_end(ids, 2) for ids in answers["answers"]]
    assert [tokenizer.decode(ids) for ids in ours] == [tokenizer.decode(ids) for ids in theirs]
    assert all(ids for ids in ours)


@pytest.mark.parametrize(
    "name",
    ["llama", "llama3", "linear", "yarn", "mistral", "qwen2", "vicuna", "llava-qwen2", "llava-mistral"],
)
def test_families_and_positions(checkpoint: Folder, converted: Convert, tmp_path: Path, name: str) -> None:
    folder = checkpoint(name)
    kind = AutoModelForImageTextToText if name.startswith("llava") else AutoModelForCausalLM
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lead = " " if name == "vicuna" else ""
    texts = [" ".join(TEXTS), "How many people", "What is the colour of the circle? " * 5]
    end = tokenizer.eos_token_id
    theirs = [until_end(greedy(model, tokenizer, text), end) for text in texts]
    found = ask_library(
        converted(name, kind=WeightType.F32).text,
        tmp_path,
        prompts=[lead + text for text in texts],
        tokens=TOKENS,
    )
    assert [until_end(ids, end) for ids in found["answers"]] == theirs


def draw(folder: Path, color: str, shape: str, side: int = 128) -> Path:
    """A picture of the tower's own size: nobody resizes it."""
    image = Image.new("RGB", (side, side), "white")
    pen, box = ImageDraw.Draw(image), (side // 4, side // 4, 3 * side // 4, 3 * side // 4)
    (pen.ellipse if shape == "circle" else pen.rectangle)(box, fill=color)
    path = folder / f"{color}-{shape}.png"
    image.save(path)
    return path


@pytest.mark.parametrize("layout", list(Layout))
def test_the_starter_about_pictures(
    checkpoint: Folder, converted: Convert, tmp_path: Path, layout: Layout
) -> None:
    folder = checkpoint("starter")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    shown = [draw(tmp_path, *kind) for kind in (("red", "circle"), ("blue", "square"), ("green", "circle"))]
    asked = [
        (path, question)
        for path in shown
        for question in ("What color is the shape?", "What shape is it?", "Is there a circle?")
    ]
    theirs = []
    for path, question in asked:
        text = prompt("<image>\n" + question)
        inputs = processor(images=Image.open(path), text=text, return_tensors="pt")
        with torch.inference_mode():
            made = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
        answer = made[0, inputs["input_ids"].shape[1] :]
        theirs.append(processor.decode(answer, skip_special_tokens=True).strip())
    files = converted("starter", kind=WeightType.F32, layout=layout, vision_kind=WeightType.F32)
    before, after = prompt("<image>\nQ").split("<image>")
    ours = ask_library(
        files.text,
        tmp_path,
        mmproj=files.mmproj,
        pictures=[(before, path, after.replace("Q", question, 1)) for path, question in asked],
        tokens=TOKENS,
    )
    assert [text.strip() for text in ours["pictures"]] == theirs


@pytest.mark.parametrize("name", ["llava-qwen2", "llava-mistral"])
def test_the_library_takes_the_picture_part(
    checkpoint: Folder, converted: Convert, tmp_path: Path, name: str
) -> None:
    files = converted(name, layout=Layout.ROTATED)
    asked = [("Look: ", draw(tmp_path, "red", "circle", 32), " What is it?")]
    assert len(ask_library(files.text, tmp_path, mmproj=files.mmproj, pictures=asked)["pictures"]) == 1


def test_a_tower_stops_where_its_config_says(checkpoint: Folder, converted: Convert, tmp_path: Path) -> None:
    """Three blocks without the last are the same as two with the last; fewer are not."""
    source = open_checkpoint(checkpoint("llava"))
    asked = [
        ("<|im_start|>user\n", draw(tmp_path, "red", "circle", 32), "<|im_end|>\n<|im_start|>assistant\n")
    ]
    answers = []
    for blocks, layer in ((3, -2), (2, -1), (3, 2), (3, 1), (2, -2)):
        tower = source.config["vision_config"] | {"num_hidden_layers": blocks}
        config = {**source.config, "vision_config": tower, "vision_feature_layer": layer}
        path = tmp_path / f"{blocks}{layer}.gguf"
        document = replace(source, config=config).picture_document(Layout.ROTATED, WeightType.F32)
        write_document(
            document, source.folder, source.tensors, path, threads=1, report=lambda _: None, cancel=Flag()
        )
        text = converted("llava", kind=WeightType.F32).text
        answers += ask_library(text, tmp_path, mmproj=path, pictures=asked, tokens=64)["pictures"]
    assert answers[0] == answers[1] == answers[2]
    assert answers[3] == answers[4]
    assert answers[0] != answers[3]


@pytest.mark.parametrize("name", ["starter", "llama", "llama3", "qwen2", "vicuna", "vicuna-legacy"])
def test_words(checkpoint: Folder, converted: Convert, tmp_path: Path, name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint(name))
    pieces = name.startswith("vicuna")
    turns = "Hello</s>USER: and</s>" if pieces else prompt("Hello") + "Hi<|im_end|>\n" + prompt("and")
    texts = [text for text in (*TEXTS, turns) if not pieces or not text.startswith(" ")]
    # SentencePiece's space at the beginning alone is the caller's.
    lead = " " if name == "vicuna" else ""
    found = ask_library(converted(name).text, tmp_path, texts=[lead + text for text in texts])
    assert found["ids"] == [tokenizer.encode(text) for text in texts]
