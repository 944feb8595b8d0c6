"""The engine that runs GGUF files with llama.cpp, on the processor.

The library's chat server runs within the worker's process (see `llamacpp.server`). It keeps the conversation
that was read last, and up to `ServerSettings.kept_mib` of earlier ones (a few, see `placement.gguf_kept`). A
prompt is computed from where it differs from the nearest of them, and a picture that stands before that place
is not encoded again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event as Flag

from PIL import Image

from backends.engines.base import ChatRequest, ProgressSink
from backends.engines.heap import give_gaps_back
from backends.engines.llamacpp.answer import TICK_S, Answer
from backends.engines.llamacpp.errors import as_snug_errors, why_not_answered
from backends.engines.llamacpp.exchange import Ended, Exchange, Reading, Refused
from backends.engines.llamacpp.library import load_library
from backends.engines.llamacpp.model import LoadedModel, load
from backends.engines.llamacpp.prompt import Written
from backends.engines.llamacpp.requests import parts_of, request
from backends.engines.llamacpp.sources import kept
from backends.engines.rss import peak_rss
from backends.engines.stages import ANSWERING, LOADING, READING_AHEAD
from backends.errors import CannotMove, MmprojMissing, NotLoaded, PicturesUnseen
from backends.messages import (
    Done,
    Event,
    ImagePart,
    Message,
    SamplingParams,
    Timings,
    Usage,
    asks_about_pictures,
)
from backends.placement.moving import why_reload
from backends.placement.pictures import check_number
from backends.placement.types import Plan
from backends.reports import DevicePeak, LoadReport
from backends.text import Text

# The environment variable with the folder of converted files (worker.environment).
CACHE = "SNUG_CONVERTED"
_UNQUANTIZED = frozenset({"f32", "f16", "bf16", "f64"})
# A rehearsal with a picture only where the tower takes a fraction of a second: it can't be interrupted.
_QUICK_FLOPS = 10e9


class LlamaCppEngine:
    """Implements `Engine`; one model, one call at a time.

    `exact`: attention in 32 bits, to compare. `cache` takes repaired copies of published files; without one,
    the environment names it (`CACHE`), or nothing is repaired.
    """

    def __init__(self, *, exact: bool = False, cache: Path | None = None) -> None:
        self._exact = exact
        named = os.environ.get(CACHE)
        self._cache = cache or (Path(named) if named else None)
        self._plan: Plan | None = None
        self._model: LoadedModel | None = None
        # A request that was left and that the library has not ended yet.
        self._left: Exchange | None = None

    def load(self, plan: Plan, progress: ProgressSink, cancel: Flag) -> LoadReport:
        """Carry out `plan`; after any failure nothing is left in memory."""
        begun = time.perf_counter()
        self.close()
        with as_snug_errors(LOADING), kept(plan):
            self._model = load(plan, progress, cancel, cache=self._cache, exact=self._exact)
        self._plan = plan
        return _report(self._model, plan, time.perf_counter() - begun)

    def move(self, plan: Plan, progress: ProgressSink, cancel: Flag) -> LoadReport:  # noqa: ARG002
        """Nothing can be moved: llama.cpp places a model when it reads its file."""
        if self._plan is None:
            raise NotLoaded
        raise CannotMove(
            detail=why_reload(self._plan, plan)
            or Text("move.gguf", "llama.cpp places a model while it reads its file.")
        )

    @property
    def loaded(self) -> bool:
        """Whether a whole model is in memory."""
        return self._model is not None

    def chat(self, request: ChatRequest, cancel: Flag) -> Iterator[Event]:
        """Stream an answer. Raises NotLoaded, ContextExceeded, ImageUnreadable, PicturesUnseen,
        PicturesExceeded, SettingInvalid (an order of messages that the template refuses), OutOfRam.
        """
        if self._model is None:
            raise NotLoaded
        self._check_pictures(request.messages)
        with as_snug_errors(ANSWERING):
            yield from self._answer(self._model, request, cancel)

    def rehearse(self, cancel: Flag) -> None:
        """Let two tokens be answered to a blank picture: buffers, threads and pages of the file get ready."""
        model = self._model
        if model is None:
            raise NotLoaded
        parts: list[str | ImagePart] = [" Hello"]
        with TemporaryDirectory(prefix="snug-") as folder, as_snug_errors(ANSWERING):
            if model.store is not None and _tower_flops(model) < _QUICK_FLOPS:
                parts.append(_blank_picture(Path(folder)))
            self._read(model, Written(tuple(parts)), 2, cancel)

    def prime(self, conversation: str, messages: Sequence[Message], cancel: Flag) -> None:  # noqa: ARG002
        """Read an unfinished conversation up to where its draft may still change. Raises as `chat` does."""
        if self._model is None:
            raise NotLoaded
        self._check_pictures(messages)
        if not messages:
            return
        with as_snug_errors(READING_AHEAD):
            self._read(self._model, self._model.writer.settled(messages), 0, cancel)

    def memory(self) -> tuple[DevicePeak, ...]:
        """The weights, and which of them are used where the file is mapped."""
        if self._model is None:
            return ()
        files = self._model.files
        mapped = files.mapped_bytes if Path("/proc/self/smaps").exists() else 0
        return (DevicePeak("cpu", files.info.weights_bytes, mapped_weights_bytes=mapped),)

    def close(self) -> None:
        """Give everything back; a request that was left is waited for."""
        if self._left is not None:
            self._left.stop()
            self._left.join()
            self._left = None
        if self._model is not None:
            self._model.server.close()
            self._model = self._plan = None
            give_gaps_back()

    def _check_pictures(self, messages: Sequence[Message]) -> None:
        if self._model is None or self._plan is None:
            return
        if self._model.store is not None:
            check_number(self._plan, messages)
        elif asks_about_pictures(messages):
            path = Path(self._plan.model_path)
            if self._plan.format == "gguf":
                raise MmprojMissing(model=path.name, file=path.name)
            raise PicturesUnseen(model=path.name)

    def _answer(self, model: LoadedModel, asked: ChatRequest, cancel: Flag) -> Iterator[Event]:
        begun = time.perf_counter()
        written = model.writer.write(asked.messages)
        parts = parts_of(written, model.store)
        if not self._is_free(cancel) or (pictures := self._picture_tokens(model, written, cancel)) is None:
            yield Done("cancelled", Usage(0, 0, 0), Timings(0.0, 0.0, time.perf_counter() - begun), ())
            return
        body = request(
            parts,
            asked.sampling,
            repetition_penalty=model.repetition_penalty,
            context_tokens=model.context_tokens,
        )
        answer = Answer(
            begun=begun,
            max_tokens=asked.sampling.max_tokens,
            context_tokens=model.context_tokens,
            image_tokens=pictures,
            fragments=lambda: model.fragments,
        )
        self._left = Exchange(model.server, body, cancel=cancel)
        yield from answer.events(self._left, cancel)

    def _read(self, model: LoadedModel, written: Written, tokens: int, cancel: Flag) -> None:
        """Let the library read `written` and answer up to `tokens`; returns early when called off."""
        if not written.parts or not self._is_free(cancel) or cancel.is_set():
            return
        body = request(parts_of(written, model.store), SamplingParams(temperature=0.0, max_tokens=tokens))
        exchange = self._left = Exchange(model.server, body)
        try:
            while not cancel.is_set():
                if isinstance(exchange.next(TICK_S), Ended | Refused):
                    break
        finally:
            exchange.stop()

    def _is_free(self, cancel: Flag) -> bool:
        """Wait until the library has ended what was left; False when called off before."""
        while self._left is not None:
            self._left.stop()
            if self._left.join(TICK_S):
                self._left = None
            elif cancel.is_set():
                return False
        return True

    def _picture_tokens(self, model: LoadedModel, written: Written, cancel: Flag) -> int | None:
        """How many tokens the pictures of `written` take; None when called off."""
        if model.fixed_picture_tokens is not None:
            return model.fixed_picture_tokens * len(written.pictures)
        for index, part in enumerate(written.parts):
            if not isinstance(part, ImagePart) or part.sha256 in model.counted:
                continue
            without = self._length(model, written.parts[:index], cancel)
            length = self._length(model, written.parts[: index + 1], cancel)
            if without is None or length is None:
                return None
            model.counted[part.sha256] = length - without - 1  # the word that follows, see `parts_of`
        return sum(model.counted[picture.sha256] for picture in written.pictures)

    def _length(self, model: LoadedModel, parts: Sequence[str | ImagePart], cancel: Flag) -> int | None:
        """Tokens of a prompt, found without computing anything; None when called off."""
        if not parts:
            return 0
        if not self._is_free(cancel):
            return None
        body = request(parts_of(Written(tuple(parts)), model.store), SamplingParams(max_tokens=0))
        exchange = self._left = Exchange(model.server, body, only_count=True)
        while not cancel.is_set():
            match exchange.next(TICK_S):
                case Reading(total=total):
                    return total
                case Refused(document, error):
                    raise error or why_not_answered(document, model.context_tokens)
                case Ended():
                    return None
        return None


def _report(model: LoadedModel, plan: Plan, seconds: float) -> LoadReport:
    files = model.files
    tensors = [tensor for header in files.headers for tensor in header.tensors]
    # Of a converted checkpoint, plans have the checkpoint's own names.
    planned = plan.conversion is not None or bool(plan.visible_gpus)
    placed = plan.device_map if planned else [(module.name, "cpu") for module in files.info.modules]
    return LoadReport(
        engine="llamacpp",
        precision=files.info.dtype,
        device_map=tuple(placed),
        dtype=plan.compute_dtype,
        quantized=sum(1 for one in tensors if len(one.shape) > 1 and one.dtype not in _UNQUANTIZED),
        offload_dir=None,
        seconds=seconds,
        peaks=(("cpu", peak_rss()),),
        supports_images=model.store is not None,
        context_tokens=model.context_tokens,
        notes=files.notes,
    )


def _tower_flops(model: LoadedModel) -> float:
    """What encoding one picture takes."""
    info = model.files.info
    if info.vision is None:
        return 0.0
    parameters = next((one.parameters for one in info.modules if one.name == "mmproj"), 0)
    return 2.0 * parameters * info.vision.patches


def _blank_picture(folder: Path) -> ImagePart:
    path = folder / "blank.png"
    Image.new("RGB", (64, 64), "white").save(path)
    return ImagePart(path, sha256="blank", width=64, height=64)


def warm_up() -> None:
    """Import what a load needs."""
    import jinja2.sandbox

    _ = jinja2.sandbox
    load_library()
