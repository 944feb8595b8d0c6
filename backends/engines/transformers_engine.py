"""The engine that runs safetensors checkpoints with torch and transformers."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from pathlib import Path as FilePath
from tempfile import TemporaryDirectory
from threading import Event as Flag
from typing import Any

import torch
import transformers
from PIL import Image
from transformers.utils import logging as transformers_logging

from backends.engines.answering import Speaker, answer
from backends.engines.base import ChatRequest, ProgressSink
from backends.engines.devices import compute_dtype, is_streamed, use_physical_cores
from backends.engines.errors import as_snug_errors
from backends.engines.loading import Loaded, load_model, remove_offloaded
from backends.engines.paths import Path, choose_path
from backends.engines.report import Meter, make_report
from backends.engines.template import ChatTemplate, choose_template, end_of_turn
from backends.errors import NotLoaded
from backends.messages import Event, ImagePart, Message, Part, Role, SamplingParams, TextPart
from backends.placement.types import Plan
from backends.reports import DevicePeak, LoadReport

# A model up to this size answers a picture within about a second on any CPU.
_QUICK_PARAMETERS = 1_000_000_000


class TransformersEngine:
    """Implements `Engine`; one model, one call at a time."""

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._path: Path | None = None
        self._speaker: Speaker | None = None
        self._meter: Meter | None = None

    def load(self, plan: Plan, progress: ProgressSink, cancel: Flag) -> LoadReport:
        """Carry out `plan`; after any failure nothing is left in memory or on the disk."""
        begun = time.perf_counter()
        self.close()
        quiet()
        use_physical_cores()
        self._plan = plan
        try:
            with as_snug_errors("loading the model", plan.model_path, plan.offload_dir):
                loaded = load_model(plan, progress, cancel)
                context = _context(loaded.model.config, plan)
                self._prepare(loaded, plan, context)
                report = make_report(loaded, plan, context, time.perf_counter() - begun)
                self._meter = Meter(loaded.model, plan)
                return report
        except BaseException:
            self.close()
            raise

    def chat(self, request: ChatRequest, cancel: Flag) -> Iterator[Event]:
        """Stream an answer. Raises NotLoaded, ContextExceeded, ImageUnreadable, out of memory."""
        if self._path is None or self._speaker is None:
            raise NotLoaded
        with as_snug_errors("answering"):
            yield from answer(self._path, self._speaker, request, cancel)

    def rehearse(self, cancel: Flag) -> None:
        """Answer two tokens to a blank picture: kernels, thread pools, weight pages and classes get ready.

        Streamed weights would only be moved for nothing, and a large vision tower on a CPU takes seconds that
        are better left to a question.
        """
        if self._plan is None or self._path is None or self._speaker is None:
            raise NotLoaded
        if is_streamed(self._plan) or cancel.is_set():
            return
        on_gpu = self._speaker.device.type == "cuda"
        with TemporaryDirectory(prefix="snug-") as folder:
            parts: list[Part] = [TextPart("What is this?")]
            if on_gpu or self._plan.parameters <= _QUICK_PARAMETERS:
                parts.insert(0, _blank_picture(FilePath(folder)))
            messages = (Message(Role.USER, tuple(parts)),)
            request = ChatRequest("", messages, SamplingParams(max_tokens=2))
            for _ in self.chat(request, cancel):
                pass
        self._path.forget()

    def prime(self, conversation: str, messages: Sequence[Message], cancel: Flag) -> None:
        """Prefill an unfinished conversation up to where its draft may still change."""
        if self._path is None:
            raise NotLoaded
        with as_snug_errors("reading ahead"):
            self._path.prime(conversation, messages, cancel)

    def memory(self) -> tuple[DevicePeak, ...]:
        """What each device has held at most since the load."""
        return self._meter.read() if self._meter is not None else ()

    def close(self) -> None:
        """Drop the model, its caches and its offloaded weights."""
        held = self._plan is not None
        self._path = self._speaker = self._meter = None
        if held:
            gc.collect()
        if held and torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self._plan is not None:
            remove_offloaded(self._plan)
            self._plan = None

    def _prepare(self, loaded: Loaded, plan: Plan, context: int) -> None:
        template = choose_template(loaded.processor, loaded.tokenizer, image_token(loaded))
        device = input_device(loaded.model)
        self._path = choose_path(
            loaded,
            template,
            context,
            device=device,
            dtype=compute_dtype(plan),
            streamed=is_streamed(plan),
        )
        self._speaker = Speaker(
            tokenizer=loaded.tokenizer,
            stop_ids=stop_ids(loaded, template),
            repetition_penalty=float(loaded.model.generation_config.repetition_penalty or 1.0),
            context_tokens=context,
            device=device,
        )


def _blank_picture(folder: FilePath) -> ImagePart:
    path = folder / "blank.png"
    Image.new("RGB", (64, 64), "white").save(path)
    return ImagePart(path, sha256="blank", width=64, height=64)


def warm_up() -> None:
    """Import what a load needs. The classes of LLaVA, the most common family, are read ahead as well."""
    quiet()
    import accelerate
    import jinja2.sandbox
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("llava")  # builds and keeps the table of all families
    _ = (
        accelerate,
        jinja2.sandbox,
        transformers.AutoModelForImageTextToText,
        transformers.AutoProcessor,
        transformers.CLIPImageProcessorPil,
        transformers.CLIPVisionModel,
        transformers.LlamaModel,
        transformers.LlavaForConditionalGeneration,
        transformers.LlavaProcessor,
    )
    use_physical_cores()
    with torch.inference_mode():
        torch.nn.functional.linear(torch.ones(8, 64), torch.ones(64, 64))  # starts the thread pool


def quiet() -> None:
    """Keep transformers' bars and warnings out of the worker's output."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def image_token(loaded: Loaded) -> str:
    """What a chat template writes for a picture, "" for models without eyes."""
    if not loaded.supports_images:
        return ""
    return getattr(loaded.processor, "boi_token", None) or loaded.processor.image_token


def input_device(model: Any) -> torch.device:
    """Where token ids belong: with the model, or with the first GPU of a spread one."""
    spread = getattr(model, "hf_device_map", None) or {}
    gpus = [device for device in spread.values() if device not in ("cpu", "disk")]
    if len(set(spread.values())) > 1 or "disk" in spread.values():
        return torch.device(gpus[0]) if gpus else torch.device("cpu")
    device: torch.device = model.device
    return device


def stop_ids(loaded: Loaded, template: ChatTemplate) -> frozenset[int]:
    """Every token that ends an answer: of the generation config, the tokenizer and the template."""
    configured = loaded.model.generation_config.eos_token_id
    found = set(configured if isinstance(configured, list) else [configured])
    found |= {loaded.tokenizer.eos_token_id, end_of_turn(template, loaded.tokenizer)}
    return frozenset(int(token) for token in found if token is not None)


def _context(config: Any, plan: Plan) -> int:
    """Tokens that plan and model both allow."""
    longest = getattr(config.get_text_config(), "max_position_embeddings", None)
    return min(plan.context_tokens, longest) if longest else plan.context_tokens
