"""The engine that runs safetensors checkpoints with torch and transformers."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path as FilePath
from tempfile import TemporaryDirectory, gettempdir
from threading import Event as Flag
from typing import Any

import torch
import transformers
from PIL import Image
from transformers.utils import logging as transformers_logging

from backends.engines.answering import Speaker, answer
from backends.engines.arrangement import Arrangement
from backends.engines.base import ChatRequest, ProgressSink
from backends.engines.detail import limit_detail
from backends.engines.devices import compute_dtype, is_streamed, runtime_units, use_physical_cores
from backends.engines.errors import as_snug_errors
from backends.engines.loading import Loaded, load_model
from backends.engines.offload import OffloadFolder
from backends.engines.paths import Path, choose_path, chunked_path
from backends.engines.placing import first_device, runs_alike
from backends.engines.readiness import check_gpus, check_memory, room
from backends.engines.report import Meter, make_report
from backends.engines.template import ChatTemplate, choose_template, end_of_turn
from backends.errors import CannotMove, NotLoaded, PicturesUnseen
from backends.messages import (
    Event,
    ImagePart,
    Message,
    Part,
    Role,
    SamplingParams,
    TextPart,
    asks_about_pictures,
)
from backends.placement.moving import why_reload
from backends.placement.pictures import check_number
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
        self._sees = False
        self._meter: Meter | None = None
        self._loaded: Loaded | None = None
        self._arrangement: Arrangement | None = None
        self._folder: OffloadFolder | None = None

    def load(self, plan: Plan, progress: ProgressSink, cancel: Flag) -> LoadReport:
        """Carry out `plan`; after any failure nothing is left in memory or on the disk."""
        begun = time.perf_counter()
        self.close()
        quiet()
        use_physical_cores()
        self._plan = plan
        try:
            with as_snug_errors("loading the model", plan.model_path, plan.offload_dir, plan.visible_gpus):
                check_gpus(plan, plan.visible_gpus)
                check_memory(plan)
                self._folder = _offload_folder(plan)
                loaded = load_model(plan, progress, cancel, self._folder.path if self._folder else None)
                self._loaded = loaded
                if any(device != "cpu" for _, device in plan.device_map):
                    self._arrangement = _arranged(loaded, plan, self._folder)
                context = _context(loaded.model.config, plan)
                self._prepare(loaded, plan, context)
                report = make_report(loaded, plan, context, time.perf_counter() - begun)
                if plan.visible_gpus:
                    # Before anything else touches the GPUs: their counters begin anew here.
                    self._meter = Meter(loaded.model, plan)
                return report
        except BaseException:
            self.close()
            raise

    def move(self, plan: Plan, progress: ProgressSink, cancel: Flag) -> LoadReport:
        """Rearrange the loaded model; after any error it answers as before.

        What conversations have cached stays where every layer still gives the same bits, and nothing failed
        half-way; else the next question reads its prompt anew.
        """
        begun = time.perf_counter()
        old, loaded = self._plan, self._loaded
        if old is None or loaded is None:
            raise NotLoaded
        if (obstacle := why_reload(old, plan)) is not None:
            raise CannotMove(detail=obstacle)
        arrangement = self._arrangement
        if arrangement is None:
            # A model that lies in RAM as a whole needs none until now.
            arrangement = self._arrangement = _arranged(loaded, old, None)
        plan = replace(plan, visible_gpus=old.visible_gpus)  # what this process sees, and counts by
        before, context = arrangement.placed, _context(loaded.model.config, plan)
        with as_snug_errors("moving the model", plan.model_path, plan.offload_dir, plan.visible_gpus):
            check_gpus(plan, old.visible_gpus)
            settled = arrangement.settled
            try:
                self._rearrange(arrangement, plan, progress, cancel)
            except BaseException:
                if self._loaded is not None:
                    if arrangement.settled != settled:
                        # What came back lies at other addresses: see `runs_alike`.
                        self._prepare(loaded, old, _context(loaded.model.config, old))
                    self._meter = Meter(loaded.model, old)  # the attempt is no need of the answers
                raise
        names = [unit.name for unit in (*before, *arrangement.placed)]
        alike = runs_alike(before, arrangement.placed, names) and is_streamed(old) == is_streamed(plan)
        limit_detail(loaded.processor, plan.image_tokens)
        alike = alike and plan.image_tokens == old.image_tokens  # else tokens show other parts of it
        if not alike or self._path is None or self._speaker is None:
            self._prepare(loaded, plan, context)
        else:
            self._path.resize(context)
            self._speaker = replace(self._speaker, context_tokens=context)
        self._plan = plan
        report = make_report(loaded, plan, context, time.perf_counter() - begun)
        self._meter = Meter(loaded.model, plan)
        return replace(report, moved=True)

    @property
    def loaded(self) -> bool:
        """Whether a whole model is in memory."""
        return self._loaded is not None

    def _rearrange(self, arrangement: Arrangement, plan: Plan, progress: ProgressSink, cancel: Flag) -> None:
        """Carry the tensors over; the offload folder comes and goes with what rests in it."""
        on_disk = any(device == "disk" for _, device in plan.device_map)
        folder = (self._folder or _made_folder(plan)) if on_disk else None
        try:
            arrangement.rearrange(runtime_units(plan), folder, room, progress, cancel)
        except BaseException:
            if folder is not None and folder is not self._folder:
                folder.remove()
            if arrangement.broken:
                self.close()  # half a model answers nothing; its memory is better free
            raise
        finally:
            _give_back()
        if self._folder is not None and self._folder is not folder:
            self._folder.remove()
        self._folder = folder

    def chat(self, request: ChatRequest, cancel: Flag) -> Iterator[Event]:
        """Stream an answer. Raises NotLoaded, ContextExceeded, ImageUnreadable, out of memory.

        Without eyes, a question with pictures raises PicturesUnseen; pictures of earlier turns are left out.
        More pictures than memory is kept for raise PicturesExceeded.
        """
        if self._path is None or self._speaker is None:
            raise NotLoaded
        self._check_pictures(request.messages)
        with as_snug_errors("answering", gpus=self._visible):
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
            if self._sees and self._plan.images and (on_gpu or self._plan.parameters <= _QUICK_PARAMETERS):
                parts.insert(0, _blank_picture(FilePath(folder)))
            messages = (Message(Role.USER, tuple(parts)),)
            request = ChatRequest("", messages, SamplingParams(max_tokens=2))
            for _ in self.chat(request, cancel):
                pass
        self._path.forget()

    def prime(self, conversation: str, messages: Sequence[Message], cancel: Flag) -> None:
        """Prefill an unfinished conversation up to where its draft may still change.

        Raises PicturesUnseen and PicturesExceeded like `chat`.
        """
        if self._path is None:
            raise NotLoaded
        self._check_pictures(messages)
        with as_snug_errors("reading ahead", gpus=self._visible):
            self._path.prime(conversation, messages, cancel)

    def memory(self) -> tuple[DevicePeak, ...]:
        """What each device has held at most since the load."""
        if self._loaded is None or self._plan is None:
            return ()
        if self._meter is None:
            self._meter = Meter(self._loaded.model, self._plan)
        return self._meter.read()

    def close(self) -> None:
        """Drop the model, its caches and its offloaded weights."""
        held = self._plan is not None
        self._path = self._speaker = self._meter = None
        self._loaded = self._arrangement = self._plan = None
        if held:
            _give_back()
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    @property
    def _visible(self) -> tuple[int, ...]:
        """The driver's numbers of the GPUs that this process sees, in torch's order."""
        return self._plan.visible_gpus if self._plan is not None else ()

    def _check_pictures(self, messages: Sequence[Message]) -> None:
        if not self._sees and self._plan is not None and asks_about_pictures(messages):
            raise PicturesUnseen(model=FilePath(self._plan.model_path).name)
        if self._sees and self._plan is not None:
            check_number(self._plan, messages)

    def _prepare(self, loaded: Loaded, plan: Plan, context: int) -> None:
        device = torch.device(first_device(runtime_units(plan)))
        self._sees = loaded.supports_images
        if loaded.voice is not None:
            prompts, stops = loaded.voice.prompts, loaded.voice.stop_ids
            self._path = chunked_path(
                loaded.model,
                prompts,
                context,
                device=device,
                dtype=compute_dtype(plan),
                streamed=is_streamed(plan),
            )
        else:
            template = choose_template(loaded.processor, loaded.tokenizer, image_token(loaded))
            stops = stop_ids(loaded, template)
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
            stop_ids=stops,
            repetition_penalty=float(loaded.model.generation_config.repetition_penalty or 1.0),
            context_tokens=context,
            device=device,
        )


def _arranged(loaded: Loaded, plan: Plan, folder: OffloadFolder | None) -> Arrangement:
    return Arrangement(loaded.model, runtime_units(plan), folder, loaded.stored)


def _give_back() -> None:
    """Return freed memory to the system and the driver."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _offload_folder(plan: Plan) -> OffloadFolder | None:
    """The folder for what a load puts on the disk, checked for space. Raises DiskFull, FolderReadOnly."""
    if all(device != "disk" for _, device in plan.device_map):
        return None
    folder = _made_folder(plan)
    try:
        folder.check(plan.disk_needed_bytes)
    except BaseException:
        folder.remove()
        raise
    return folder


def _made_folder(plan: Plan) -> OffloadFolder:
    return OffloadFolder(FilePath(plan.offload_dir or gettempdir()))


def _blank_picture(folder: FilePath) -> ImagePart:
    path = folder / "blank.png"
    Image.new("RGB", (64, 64), "white").save(path)
    return ImagePart(path, sha256="blank", width=64, height=64)


def warm_up() -> None:
    """Import what a load needs. The classes of LLaVA, the most common family, are read ahead as well."""
    import backends.engines.originals.llava.voice

    quiet()
    import accelerate
    import jinja2.sandbox
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("llava")  # builds and keeps the table of all families
    _ = (
        accelerate,
        backends.engines.originals.llava.voice,
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
    logging.getLogger("accelerate").setLevel(logging.ERROR)


def image_token(loaded: Loaded) -> str:
    """What a chat template writes for a picture, "" for models without eyes."""
    if not loaded.supports_images:
        return ""
    return getattr(loaded.processor, "boi_token", None) or loaded.processor.image_token


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
