"""How near converted models are to their checkpoints in transformers: answers, and probabilities of words.

Of the whole split, see benchmarks/cpu_engines.py; here is a sample.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from threading import Event as Flag
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

from backends.conversion.types import Layout, WeightType
from backends.engines.base import ChatRequest, Engine
from backends.engines.llamacpp.probe_process import divergence, picture
from backends.engines.llamacpp_engine import LlamaCppEngine
from backends.engines.transformers_engine import TransformersEngine
from backends.messages import Done, ImagePart, Message, TextDelta
from backends.settings import load_settings
from tests.backends.engines.llamacpp.test_converted import plan_for
from tests.support import tiny_models
from tests.support.answers import greedy, user
from tests.support.plans import make_plan
from tests.support.probabilities import heard
from tests.support.tiny_models import SPECIALS, VOCAB

COLORS = ("red", "blue", "green", "yellow", "brown", "gray")
QUESTIONS = (
    "What color is the shape?",
    "What shape is in the picture?",
    "Is there a circle?",
    "Is there a blue shape?",
    "How many circles are there?",
)


def drawn(folder: Path, index: int) -> ImagePart:
    """A shape somewhere on a picture that is not square."""
    width, height = 160 + 13 * index, 128
    image = Image.new("RGB", (width, height), "white")
    pen, color = ImageDraw.Draw(image), COLORS[index % len(COLORS)]
    left, top, size = 10 + 9 * index % 70, 8 + 11 * index % 50, 40 + 3 * index
    box = (left, top, left + size, top + size)
    match index % 3:
        case 0:
            pen.ellipse(box, fill=color)
        case 1:
            pen.rectangle(box, fill=color)
        case _:
            pen.polygon([(left, top + size), (left + size, top + size), (left + size // 2, top)], fill=color)
    path = folder / f"{index}.png"
    image.save(path)
    return ImagePart(path, hashlib.sha256(path.read_bytes()).hexdigest(), width, height)


def answered(engine: Engine, messages: list[Message]) -> str:
    events = list(engine.chat(ChatRequest("tab", messages, greedy(24)), Flag()))
    assert isinstance(events[-1], Done)
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def asked(folder: Path) -> list[list[Message]]:
    pictures = [drawn(folder, index) for index in range(8)]
    return [[user(part, question)] for part in pictures for question in QUESTIONS]


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> list[list[Message]]:
    return asked(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def starters(questions: list[list[Message]]) -> list[str]:
    """What transformers answers with the bundled model."""
    engine = TransformersEngine()
    engine.load(make_plan(load_settings({}).starter), lambda _: None, Flag())
    found = [answered(engine, messages) for messages in questions]
    engine.close()
    return found


@pytest.mark.parametrize(
    ("kind", "least"), [(WeightType.F16, 0.97), (WeightType.Q8_0, 0.97), (WeightType.Q4_0, 0.8)]
)
def test_answers_of_the_starter(
    questions: list[list[Message]],
    starters: list[str],
    tmp_path_factory: pytest.TempPathFactory,
    kind: WeightType,
    least: float,
) -> None:
    engine = LlamaCppEngine()
    cache = tmp_path_factory.getbasetemp() / "starters"
    engine.load(plan_for(load_settings({}).starter, cache, kind=kind, layout=None), lambda _: None, Flag())
    found = [answered(engine, messages) for messages in questions]
    engine.close()
    same = sum(ours == theirs for ours, theirs in zip(found, starters, strict=True)) / len(found)
    assert same >= least, [pair for pair in zip(found, starters, strict=True) if pair[0] != pair[1]]


SIDE, TOKENS = 336, 576
TEXTS = ("USER: How many people are wearing red? ASSISTANT:", "the red one " * 20, "x")


def write_shape(folder: Path, *, sharp: bool) -> Any:
    """LLaVA-1.5's shape around a 336 px tower, narrow, its weights in 16 bits; the model in 32 bits.

    Random as transformers begins a training, or `sharp`: every part of the model matters much.
    """
    torch.manual_seed(12)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=6,
            num_attention_heads=2,
            image_size=SIDE,
            patch_size=14,
        ),
        text_config=tiny_models.text_config(3),
        image_token_id=SPECIALS.index("<image>"),
    )
    model = LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters() if sharp else ():
            if parameter.ndim > 1:
                whole = "embedding." in name or "embed_tokens" in name
                parameter.normal_(0.0, 1.0 if whole else 1.3 * parameter[0].numel() ** -0.5)
            elif "class_embedding" in name:
                parameter.normal_(0.0, 1.0)
        # No end and no half of a character: the library does not tell these.
        model.lm_head.weight[tiny_models._unspoken()] = 0.0
        model.lm_head.weight[SPECIALS.index("<|im_end|>")] = 0.0
    folder.mkdir(parents=True)
    model.generation_config.eos_token_id = SPECIALS.index("<|im_end|>")
    model.half().save_pretrained(folder)
    tokenizer = tiny_models.make_tokenizer()
    tokenizer.chat_template = tiny_models.CHATML.replace("IMAGE", "<image>")
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    ).save_pretrained(folder)
    # `float` would not bring back what `half` took from the positions' frequencies.
    return LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def shape(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("shape") / "model"
    return folder, write_shape(folder, sharp=True)


@pytest.fixture
def engine() -> Iterator[LlamaCppEngine]:
    made = LlamaCppEngine(exact=True)
    yield made
    made.close()


def expected(model: Any, ids: list[int], pixels: Any = None) -> list[float]:
    tokens = torch.tensor([ids])
    with torch.inference_mode():
        logits = model(input_ids=tokens, pixel_values=pixels, attention_mask=torch.ones_like(tokens)).logits
    return torch.log_softmax(logits[0, -1].double(), dim=-1).tolist()  # type: ignore[no-any-return]


def widest_gap(engine: LlamaCppEngine, model: Any) -> float:
    """The largest difference of log-probabilities, of words that are not hopeless."""
    tokenizer = tiny_models.make_tokenizer()
    found = []
    for text in TEXTS:
        theirs, ours = expected(model, tokenizer.encode(text)), heard(engine, [text], VOCAB)
        found.append(max(abs(one - other) for one, other in zip(ours, theirs, strict=True) if other > -8))
    return max(found)


def test_words_are_as_likely_as_in_transformers(tmp_path: Path) -> None:
    """In 16 bits, with the settings that answers are given with."""
    model = write_shape(tmp_path / "model", sharp=False)
    engine = LlamaCppEngine()
    engine.load(plan_for(tmp_path / "model", tmp_path / "cache", context=1024), lambda _: None, Flag())
    gap = widest_gap(engine, model)
    engine.close()
    assert gap < 1e-3


def test_nothing_but_rounding_is_between(
    shape: tuple[Path, Any], engine: LlamaCppEngine, tmp_path: Path
) -> None:
    """Weights, attention and its cache in 32 bits. Rounding one to 16 bits costs 0.002 to 0.004 here."""
    plan = plan_for(shape[0], tmp_path, kind=WeightType.F32, pictures=False, context=1024)
    engine.load(plan, lambda _: None, Flag())
    assert widest_gap(engine, shape[1]) < 1e-4


def test_pictures_are_seen_as_well_as_the_better_layout_lets_them(
    shape: tuple[Path, Any], engine: LlamaCppEngine, tmp_path: Path
) -> None:
    folder, model = shape
    tokenizer = tiny_models.make_tokenizer()
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    before, after = tokenizer.encode("look "), tokenizer.encode(" what is it?")
    images = [picture(SIDE, seed) for seed in (11, 12)]
    theirs = []
    for image in images:
        pixels = torch.from_numpy(np.array(processor(image)["pixel_values"]))
        ids = [*before, *[SPECIALS.index("<image>")] * TOKENS, *after]
        theirs.append(expected(model, ids, pixels))
    gaps: dict[Layout | None, float] = {}
    for layout in (None, *Layout):
        engine.load(plan_for(folder, tmp_path, layout=layout, context=1024), lambda _: None, Flag())
        found = [heard(engine, ["look ", image, " what is it?"], VOCAB) for image in images]
        gaps[layout] = sum(map(divergence, theirs, found)) / len(found)
    best = min(gaps[layout] for layout in Layout)
    assert gaps[None] <= 1.1 * best + 1e-6, gaps
