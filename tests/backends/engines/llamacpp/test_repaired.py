"""A published GGUF model whose tower was cut short: repaired at the load, and nearer to transformers then."""

from __future__ import annotations

from pathlib import Path
from threading import Event as Flag
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from PIL import Image
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from backends.conversion.convert import convert
from backends.conversion.types import Layout, Request, WeightType
from backends.engines.llamacpp.probe_process import divergence, picture
from backends.engines.llamacpp_engine import LlamaCppEngine
from tests.support import tiny_models
from tests.support.plans import make_plan
from tests.support.probabilities import heard
from tests.support.tiny_models import SPECIALS, VOCAB

SIDE, PATCH, WIDTH, BLOCKS = 48, 8, 768, 12
BEFORE, AFTER = "look at this ", " what is the color"


def tower_and_words(folder: Path) -> Any:
    """A LLaVA with a tower of ViT-B's width and depth, and short MLPs, as a checkpoint; its model."""
    torch.manual_seed(4)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=64,
            num_hidden_layers=BLOCKS,
            num_attention_heads=12,
            image_size=SIDE,
            patch_size=PATCH,
        ),
        text_config=tiny_models.text_config(2),
        image_token_id=SPECIALS.index("<image>"),
    )
    model = LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                wide = 1.0 if "embedding" in name or "embed_tokens" in name else parameter[0].numel() ** -0.5
                parameter.normal_(0.0, 1.5 * wide)
    folder.mkdir(parents=True)
    model.generation_config.eos_token_id = SPECIALS.index("<|im_end|>")
    model.save_pretrained(folder)
    tiny_models.make_tokenizer().save_pretrained(folder)
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    processor.save_pretrained(folder)
    return model


def publish(mmproj: Path, target: Path) -> None:
    """The file as older converters wrote it: plain positions, the last block cut away, no keys of ours."""
    reader, writer = GGUFReader(mmproj), GGUFWriter(target, "clip")
    for name, field in reader.fields.items():
        if name.startswith(("GGUF.", "snug.")) or name == "general.architecture":
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        value = BLOCKS - 1 if name == "clip.vision.block_count" else field.contents()
        writer.add_key_value(name, value, kind, sub_type=inner)
    for tensor in reader.tensors:
        if not tensor.name.startswith(f"v.blk.{BLOCKS - 1}."):
            writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder of a published GGUF model, and the same model in transformers."""
    root = tmp_path_factory.mktemp("published")
    model = tower_and_words(root / "checkpoint")
    made = convert(
        Request(root / "checkpoint", root / "made", WeightType.F32, Layout.PLAIN, WeightType.F32),
        lambda *_: None,
        Flag(),
    )
    assert made.mmproj is not None
    folder = root / "gguf"
    folder.mkdir()
    made.text.rename(folder / "model-f32.gguf")
    publish(made.mmproj, folder / "mmproj-model-f32.gguf")
    return folder, model


def expected(model: Any, image: Image.Image) -> list[float]:
    tokenizer = tiny_models.make_tokenizer()
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    patches = [SPECIALS.index("<image>")] * (SIDE // PATCH) ** 2
    ids = torch.tensor([[*tokenizer.encode(BEFORE), *patches, *tokenizer.encode(AFTER)]])
    pixels = torch.from_numpy(np.array(processor(image)["pixel_values"]))
    with torch.inference_mode():
        logits = model(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids)).logits
    return torch.log_softmax(logits[0, -1].double(), dim=-1).tolist()  # type: ignore[no-any-return]


def gap(engine: LlamaCppEngine, model: Any) -> float:
    images = [picture(SIDE, seed) for seed in (5, 6, 7)]
    return sum(
        divergence(expected(model, image), heard(engine, [BEFORE, image, AFTER], VOCAB)) for image in images
    ) / len(images)


def test_the_repaired_file_is_nearer_to_transformers(published: tuple[Path, Any], tmp_path: Path) -> None:
    folder, model = published
    plan = make_plan(folder / "model-f32.gguf", context_tokens=512)
    engine = LlamaCppEngine(exact=True)
    assert engine.load(plan, lambda _: None, Flag()).notes == ()
    before = gap(engine, model)
    engine.close()

    repairing = LlamaCppEngine(exact=True, cache=tmp_path / "cache")
    report = repairing.load(plan, lambda _: None, Flag())
    (note,) = report.notes
    assert "mmproj-model-f32.gguf is used: with it, llama.cpp would leave out one layer" in str(note)
    assert report.supports_images
    after = gap(repairing, model)
    repairing.close()
    assert after < before / 5
    made = [path.name for path in (tmp_path / "cache").glob("*repaired*")]
    assert len(made) == 1
    # The second load finds it.
    steps: list[str] = []
    again = LlamaCppEngine(cache=tmp_path / "cache")
    again.load(plan, lambda step: steps.append(step.stage), Flag())
    again.close()
    assert not {"comparing", "converting"} & set(steps)


def test_a_folder_that_takes_nothing_leaves_the_file_as_it_is(
    published: tuple[Path, Any], tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("", encoding="utf-8")
    engine = LlamaCppEngine(cache=tmp_path / "cache")
    report = engine.load(
        make_plan(published[0] / "model-f32.gguf", context_tokens=512), lambda _: None, Flag()
    )
    engine.close()
    (note,) = report.notes
    assert "could not be kept" in str(note)
    assert report.supports_images
