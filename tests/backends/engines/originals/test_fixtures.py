"""Every case of every fixture through the engine: the original's 16 greedy tokens, wherever layers lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag

import pytest
import torch
from PIL import Image

from backends.engines import readiness, transformers_engine
from backends.engines.base import ChatRequest
from backends.engines.transformers_engine import TransformersEngine
from backends.messages import Done, ImagePart, Message, SamplingParams
from backends.models.identify import identify
from backends.models.types import Companions, ModelInfo, ModuleKind
from backends.placement.types import CpuLayersMode, Plan
from tests.support.originals import Asked, every_case, one_of_each
from tests.support.plans import make_plan
from tests.support.second_device import second_device
from ui.conversation_file import read_messages

GREEDY = SamplingParams(temperature=0.0, max_tokens=16)
SEEING = [asked for asked in one_of_each() if asked.fixture != "chatglm3-6b"]
# What transformers does with LLaVA-1.6's tiles asks for the driver of a real device.
EMULATED = [asked for asked in one_of_each() if not asked.fixture.startswith("llava-v1.6")]


def messages(asked: Asked, folder: Path) -> tuple[Message, ...]:
    """The conversation, read as `ask --messages` reads it."""
    path = folder / "messages.json"
    path.write_text(json.dumps(asked.content), encoding="utf-8")

    def stored(source: Path, name: str) -> ImagePart:
        with Image.open(source) as image:
            digest = hashlib.sha256(source.read_bytes()).hexdigest()
            return ImagePart(source, digest, image.width, image.height)

    return read_messages(path, stored)


def model_of(asked: Asked) -> ModelInfo:
    return identify(asked.folder, companions=Companions(template=asked.template))


def veiled(picture: ImagePart, folder: Path) -> ImagePart:
    """The same picture, transparent from left to right."""
    with Image.open(picture.path) as image:
        clear = image.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(folder / picture.path.name)
    return replace(picture, path=folder / picture.path.name, sha256=f"veiled {picture.sha256}")


def plan_of(model: ModelInfo, *, on_disk: bool = False, precision: str = "fp32", folder: Path) -> Plan:
    last = model.layers - 1
    placed = {
        module.name: "disk"
        if on_disk and (module.kind is ModuleKind.HEAD or module.name.endswith(f"layers.{last}"))
        else "cpu"
        for module in model.modules
    }
    made = make_plan(
        model.path,
        device_map=placed,
        precision=precision,
        offload_dir=str(folder / "off") if on_disk else None,
    )
    layers = tuple(module.name for module in model.modules if module.kind is ModuleKind.LAYER)
    return replace(made, companions=model.companions, quantized=layers)


@pytest.fixture
def engine() -> Iterator[TransformersEngine]:
    made = TransformersEngine()
    yield made
    made.close()


def answer(engine: TransformersEngine, asked: Asked, folder: Path) -> Done:
    request = ChatRequest("tab", messages(asked, folder), GREEDY)
    done = list(engine.chat(request, Flag()))[-1]
    assert isinstance(done, Done)
    return done


def spoken(engine: TransformersEngine, asked: Asked, folder: Path) -> tuple[int, ...]:
    """The greedy tokens, chosen on the CPU: the emulated device draws none."""
    path = engine._path
    assert path is not None
    path.open("tab", messages(asked, folder), 16)
    try:
        found = [int(path.first(Flag()).to("cpu").argmax())]
        while len(found) < len(asked.greedy_ids):
            found.append(int(path.step(found[-1]).to("cpu").argmax()))
    finally:
        path.shut()
    return tuple(found)


@pytest.mark.parametrize("asked", every_case(), ids=str)
def test_the_originals_words(asked: Asked, engine: TransformersEngine, tmp_path: Path) -> None:
    engine.load(plan_of(model_of(asked), folder=tmp_path), lambda _: None, Flag())
    done = answer(engine, asked, tmp_path)
    assert done.token_ids == asked.greedy_ids
    again = answer(engine, asked, tmp_path)
    assert again.token_ids == asked.greedy_ids  # from what was kept of the first time


@pytest.mark.parametrize("asked", SEEING, ids=str)
def test_the_colours_beneath_what_is_transparent_are_seen(
    asked: Asked, engine: TransformersEngine, tmp_path: Path
) -> None:
    engine.load(plan_of(model_of(asked), folder=tmp_path), lambda _: None, Flag())
    shown = []
    for message in messages(asked, tmp_path):
        parts = [veiled(part, tmp_path) if isinstance(part, ImagePart) else part for part in message.parts]
        shown.append(Message(message.role, tuple(parts)))
    done = list(engine.chat(ChatRequest("tab", shown, GREEDY), Flag()))[-1]
    assert isinstance(done, Done)
    assert done.token_ids == asked.greedy_ids


@pytest.mark.parametrize("asked", one_of_each(), ids=str)
def test_the_same_words_with_layers_on_the_disk(
    asked: Asked, engine: TransformersEngine, tmp_path: Path
) -> None:
    model = model_of(asked)
    report = engine.load(plan_of(model, on_disk=True, folder=tmp_path), lambda _: None, Flag())
    assert "disk" in dict(report.device_map).values()
    assert answer(engine, asked, tmp_path).token_ids == asked.greedy_ids
    written = sum(module.converted_parameters for module in model.modules) > 0
    assert bool(list(tmp_path.rglob("*.safetensors"))) == written  # else the checkpoint's own files are read


@pytest.mark.parametrize("precision", ["int8", "nf4", "bf16"])
@pytest.mark.parametrize("asked", one_of_each(), ids=str)
def test_it_runs_in_fewer_bits(
    precision: str, asked: Asked, engine: TransformersEngine, tmp_path: Path
) -> None:
    report = engine.load(
        plan_of(model_of(asked), precision=precision, folder=tmp_path), lambda _: None, Flag()
    )
    assert report.precision == precision
    assert (report.quantized > 0) == (precision != "bf16")
    assert answer(engine, asked, tmp_path).usage.completion_tokens > 0


@pytest.mark.parametrize("mode", ["compute", "stream"])
@pytest.mark.parametrize("asked", EMULATED, ids=str)
def test_a_hybrid_of_gpu_and_ram_says_the_same(
    mode: CpuLayersMode,
    asked: Asked,
    engine: TransformersEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of(asked)
    plan = replace(plan_of(model, folder=tmp_path), visible_gpus=(7,))
    monkeypatch.setattr(transformers_engine, "check_gpus", lambda *_: None)
    engine.load(plan, lambda _: None, Flag())
    rest = ("layers.1", "norm", "lm_head")
    split = tuple(
        (module.name, "cpu" if module.name.endswith(rest) else "cuda:7") for module in model.modules
    )
    hybrid = replace(plan, device_map=split, cpu_layers_mode=mode)
    monkeypatch.setattr(readiness, "gpu_count", lambda: 1)
    monkeypatch.setattr(transformers_engine, "room", lambda _: 1 << 40)
    monkeypatch.setattr(transformers_engine, "Meter", lambda *_: None)
    with second_device(), torch.no_grad():
        placed = dict(engine.move(hybrid, lambda _: None, Flag()).device_map)
        assert set(placed.values()) == {"cpu", "cuda:7"}
        assert spoken(engine, asked, tmp_path) == asked.greedy_ids
        assert spoken(engine, asked, tmp_path) == asked.greedy_ids
