"""One plan on a GPU, carried out as the engine does, with a hard limit for the memory that torch may take."""

from __future__ import annotations

import gc
import inspect
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from backends.engines.arrangement import Arrangement
from backends.engines.devices import is_streamed, runtime_units
from backends.engines.kv import empty_cache
from backends.engines.offload import OffloadFolder
from backends.engines.one_by_one import encode_alone
from backends.engines.options import load_options
from backends.placement.types import Plan
from benchmarks.gpu_models import Kind, picture_inputs, pieces

DECODED = 8


@dataclass(frozen=True, slots=True)
class Peak:
    """Bytes on the GPU: allocated tensors, and what torch's allocator had reserved for them."""

    allocated: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds to the first token and per token after it."""

    first_s: float
    token_s: float


@contextmanager
def limited(nbytes: int) -> Iterator[None]:
    """Let torch's allocator take `nbytes` of the first GPU inside the block; peaks begin anew."""
    total = torch.cuda.get_device_properties(0).total_memory
    _clear()
    torch.cuda.set_per_process_memory_fraction(min(1.0, nbytes / total), 0)
    torch.cuda.reset_peak_memory_stats(0)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, 0)
        _clear()


def _clear() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def peak() -> Peak:
    """The highest since `limited` began."""
    return Peak(torch.cuda.max_memory_allocated(0), torch.cuda.max_memory_reserved(0))


@contextmanager
def loaded(plan: Plan) -> Iterator[Any]:
    """The model of `plan`, with the engine's own placement."""
    folder = OffloadFolder(Path(plan.offload_dir)) if plan.offload_dir else None
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            plan.model_path, **load_options(plan, folder.path if folder else None)
        )
        Arrangement(model, runtime_units(plan), folder)
        encode_alone(model)
        yield model.eval()
    finally:
        if folder is not None:
            folder.remove()


@contextmanager
def loaded_by_auto(path: Path, dtype: str, gpu_bytes: int, ram_bytes: int, offload: Path) -> Iterator[Any]:
    """The same model with accelerate's own map."""
    yield AutoModelForImageTextToText.from_pretrained(
        path,
        dtype=getattr(torch, dtype),
        device_map="auto",
        max_memory={0: gpu_bytes, "cpu": ram_bytes},
        offload_folder=str(offload),
        local_files_only=True,
    ).eval()


def layers_on_gpu(model: Any) -> int:  # noqa: ANN401 - a transformers model
    """Decoder layers whose weights rest on the first GPU."""
    found = 0
    for name, module in model.named_modules():
        parent, _, index = name.rpartition(".")
        if index.isdecimal() and parent.endswith("layers") and "vis" not in parent:
            found += all(parameter.device.type == "cuda" for parameter in module.parameters())
    return found


@torch.inference_mode()
def run(
    model: Any,  # noqa: ANN401 - a transformers model
    kind: Kind,
    plan: Plan | None,
    *,
    context: int,
    side: int,
    image_tokens: int,
    device: str | torch.device = "cuda:0",
) -> Timed:
    """A prompt of one picture that fills `context`, and a few tokens after it."""
    config = AutoConfig.from_pretrained(model.name_or_path)
    device = torch.device(device)  # inputs arrive on the first GPU; hooks carry them to where layers run
    dtype = next(p.dtype for p in model.parameters() if p.dtype in (torch.float16, torch.bfloat16))
    inputs = {
        key: value.to(device, dtype if value.is_floating_point() else None)
        for key, value in picture_inputs(kind.name, side, image_tokens, config).items()
    }
    if kind.in_pieces:
        return _run_in_pieces(model, inputs, context, streamed=plan is not None and is_streamed(plan))
    return _run_whole(model, inputs, config, context)


def _run_in_pieces(model: Any, inputs: dict[str, Any], context: int, *, streamed: bool) -> Timed:  # noqa: ANN401
    begun = time.perf_counter()
    output = model.get_image_features(**inputs, return_dict=True).pooler_output
    parts = [output] if isinstance(output, torch.Tensor) else list(output)
    features = torch.cat([part.reshape(-1, part.shape[-1]) for part in parts])
    device = features.device
    total, before = context - DECODED, 16
    after = before + len(features)
    ids = torch.full((1, total), 100, device=device)
    embeds = model.get_input_embeddings()(ids).clone()
    embeds[0, before:after] = features.to(embeds.dtype)
    cache, start = empty_cache(model.config, context), 0
    for end in pieces(total, after, streamed=streamed):
        part = {"inputs_embeds": embeds[:, start:end], "past_key_values": cache}
        logits = model(**part, use_cache=True, logits_to_keep=1).logits
        start = end
    token = logits[:, -1].argmax(-1, keepdim=True)
    _wait()
    first = time.perf_counter()
    for _ in range(DECODED):
        logits = model(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        token = logits[:, -1].argmax(-1, keepdim=True).to(device)
    _wait()
    return Timed(first - begun, (time.perf_counter() - first) / DECODED)


def _run_whole(model: Any, inputs: dict[str, Any], config: Any, context: int) -> Timed:  # noqa: ANN401
    device = inputs["pixel_values"].device
    grid = inputs["image_grid_thw"][0]
    tokens = int(grid.prod()) // 4
    total = context - DECODED
    ids = torch.full((1, total), 100, device=device)
    ids[0, 8] = config.vision_start_token_id
    ids[0, 9 : 9 + tokens] = config.image_token_id
    ids[0, 9 + tokens] = config.vision_end_token_id
    inputs = inputs | {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if "mm_token_type_ids" in inspect.signature(model.forward).parameters:
        inputs["mm_token_type_ids"] = (ids == config.image_token_id).int()
    stamps: list[float] = []

    class Stamps:
        def put(self, _: object) -> None:
            _wait()
            stamps.append(time.perf_counter())

        def end(self) -> None:
            """Nothing to flush."""

    begun = time.perf_counter()
    model.generate(
        **inputs,
        past_key_values=empty_cache(model.config, context),
        do_sample=False,
        min_new_tokens=DECODED,
        max_new_tokens=DECODED,
        streamer=Stamps(),
    )
    return Timed(stamps[1] - begun, (stamps[-1] - stamps[1]) / max(1, len(stamps) - 2))


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize(0)
