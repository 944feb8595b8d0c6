"""The two ways from messages to logits: in reusable chunks where the model allows it, whole where not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event as Flag
from typing import Any, Protocol

import torch

from backends.engines.cache import TEXT_CHUNK, Prefix, PrefixStore, borders, is_croppable
from backends.engines.loading import Loaded
from backends.engines.pictures import FeatureStore, PictureReader, open_picture
from backends.engines.prompt import Prompt, PromptBuilder, Prompts
from backends.engines.runner import MERGING, ChunkRunner, Interrupted, WholeRunner
from backends.engines.template import ChatTemplate
from backends.errors import ContextExceeded
from backends.messages import Message

_STREAMED_CHUNK = 2048  # every pass moves all streamed weights, so few large ones


@dataclass(frozen=True, slots=True)
class Opened:
    """A prompt ready to be prefilled; `reused` of its tokens already are."""

    ids: tuple[int, ...]
    image_tokens: int
    reused: int


class Path(Protocol):
    """One answer at a time: `open`, `first`, any number of `step`, `shut` (always)."""

    def open(self, conversation: str, messages: Sequence[Message], max_tokens: int) -> Opened:
        """Read the prompt. Raises ContextExceeded."""
        ...

    def first(self, cancel: Flag) -> torch.Tensor:
        """Logits [1, vocab] of the answer's first token. Raises Interrupted."""
        ...

    def step(self, token: int) -> torch.Tensor:
        """Logits [1, vocab] after `token`."""
        ...

    def shut(self) -> None:
        """Keep what the next prompt may reuse, drop the rest."""
        ...

    def prime(self, conversation: str, messages: Sequence[Message], cancel: Flag) -> None:
        """Do what can be done before the question is known."""
        ...

    def forget(self) -> None:
        """Drop what is kept of every conversation."""
        ...

    def resize(self, context: int) -> None:
        """Plan with another context from the next prompt on; what fits in it stays."""
        ...


class ChunkedPath:
    """Prefills in chunks and keeps them for the conversation's next prompt."""

    def __init__(
        self, builder: Prompts, runner: ChunkRunner, store: PrefixStore, context: int, text_chunk: int
    ) -> None:
        self._builder = builder
        self._runner = runner
        self._store = store
        self._context = context
        self._text_chunk = text_chunk
        self._running: tuple[str, Prompt, tuple[int, ...], Prefix] | None = None

    def open(self, conversation: str, messages: Sequence[Message], max_tokens: int) -> Opened:
        """Read the prompt and take the longest prefix that it shares with an earlier one."""
        prompt = self._builder.build(messages)
        _check_length(len(prompt), self._context)
        ends = borders(prompt, self._text_chunk)
        reserve = min(len(prompt) + max_tokens, self._context)
        prefix = self._store.take(conversation, prompt, ends, reserve)
        self._running = (conversation, prompt, ends, prefix)
        return Opened(prompt.ids, prompt.image_tokens, len(prefix))

    def first(self, cancel: Flag) -> torch.Tensor:
        """Prefill what is missing."""
        _, prompt, ends, prefix = self._current()
        self._runner.prefill(prompt, prefix, ends, cancel)
        return self._runner.finish(prompt, prefix, cancel)

    def step(self, token: int) -> torch.Tensor:
        """Decode one token."""
        _, prompt, _, prefix = self._current()
        return self._runner.step(token, prompt, prefix)

    def shut(self) -> None:
        """Cut the cache back to whole chunks and keep it."""
        if self._running is not None:
            conversation, _, _, prefix = self._running
            self._running = None
            prefix.cut_to(len(prefix.ends))
            self._store.put(conversation, prefix)

    def prime(self, conversation: str, messages: Sequence[Message], cancel: Flag) -> None:
        """Prefill the chunks that no draft can change."""
        if not messages:
            return
        prompt, settled = self._builder.settled(messages)
        if len(prompt) >= self._context or cancel.is_set():
            return
        ends = tuple(end for end in borders(prompt, self._text_chunk) if end <= settled)
        prefix = self._store.take(conversation, prompt, ends, len(prompt))
        self._running = (conversation, prompt, ends, prefix)
        try:
            self._runner.prefill(prompt, prefix, ends, cancel)
        except Interrupted:
            pass  # a question came; what was finished is kept
        finally:
            self.shut()

    def forget(self) -> None:
        """Drop all prefixes."""
        self._store.clear()

    def resize(self, context: int) -> None:
        """Keep the conversations, the latest first, that fit together."""
        self._context = context
        self._store.resize(context)

    def _current(self) -> tuple[str, Prompt, tuple[int, ...], Prefix]:
        if self._running is None:
            raise RuntimeError("no prompt is open")
        return self._running


class WholePath:
    """Prefills every prompt anew: for models whose caches can't be cut, or whose pictures can't be split."""

    def __init__(
        self,
        template: ChatTemplate,
        loaded: Loaded,
        runner: WholeRunner,
        context: int,
        *,
        image_id: int | None,
        dtype: torch.dtype,
    ) -> None:
        self._template = template
        self._loaded = loaded
        self._runner = runner
        self._context = context
        self._image_id = image_id
        self._dtype = dtype
        self._inputs: dict[str, Any] = {}
        self._room = 0

    def open(self, conversation: str, messages: Sequence[Message], max_tokens: int) -> Opened:  # noqa: ARG002
        """Let the model's processor make the whole prompt."""
        text = self._template.render(messages)
        start = getattr(self._loaded.tokenizer, "bos_token", None)
        options: dict[str, Any] = {
            "return_tensors": "pt",
            "add_special_tokens": not (start and text.startswith(start)),
        }
        pictures = [open_picture(image) for message in messages for image in message.images]
        if pictures and self._loaded.supports_images:
            options["images"] = [pictures]
        made = self._loaded.processor(text=[text], **options)
        # The processor's float32 pixels would be kept beside those that the model takes.
        self._inputs = {
            key: value.to(self._dtype)
            if isinstance(value, torch.Tensor) and value.is_floating_point()
            else value
            for key, value in made.items()
        }
        del made
        ids = tuple(self._inputs["input_ids"][0].tolist())
        _check_length(len(ids), self._context)
        self._room = min(len(ids) + max_tokens, self._context)
        return Opened(ids, ids.count(self._image_id) if self._image_id is not None else 0, 0)

    def first(self, cancel: Flag) -> torch.Tensor:
        """Run the whole prompt."""
        return self._runner.start(self._inputs, self._room, cancel)

    def step(self, token: int) -> torch.Tensor:
        """Decode one token."""
        return self._runner.step(token)

    def shut(self) -> None:
        """Nothing is kept."""
        self._inputs = {}
        self._runner.forget()

    def prime(self, conversation: str, messages: Sequence[Message], cancel: Flag) -> None:
        """Nothing can be done ahead."""

    def forget(self) -> None:
        """Nothing is kept."""

    def resize(self, context: int) -> None:
        """The next prompt may be as long."""
        self._context = context


def choose_path(
    loaded: Loaded,
    template: ChatTemplate,
    context: int,
    *,
    device: torch.device,
    dtype: torch.dtype,
    streamed: bool,
) -> Path:
    """Chunks for causal decoders with a cache that can be cut back, the whole prompt for all others."""
    config = loaded.model.config
    merging = config.model_type in MERGING or not loaded.supports_images
    image_id = getattr(config, "image_token_id", None)
    if not (merging and is_croppable(config)):
        runner = WholeRunner(loaded.model, device, dtype)
        return WholePath(template, loaded, runner, context, image_id=image_id, dtype=dtype)
    reader = None
    if loaded.supports_images:
        reader = PictureReader(loaded.processor, template.image_token, config.image_token_id)
    prompts = PromptBuilder(template, loaded.tokenizer, reader)
    return chunked_path(loaded.model, prompts, context, device=device, dtype=dtype, streamed=streamed)


def chunked_path(
    model: Any, prompts: Prompts, context: int, *, device: torch.device, dtype: torch.dtype, streamed: bool
) -> ChunkedPath:
    """Chunks of what `prompts` writes, for a causal decoder with a cache that can be cut back."""
    return ChunkedPath(
        prompts,
        ChunkRunner(model, FeatureStore(model, dtype, device), device),
        PrefixStore(model.config, context),
        context,
        _STREAMED_CHUNK if streamed else TEXT_CHUNK,
    )


def _check_length(tokens: int, context: int) -> None:
    if tokens + 1 > context:
        raise ContextExceeded(needed_tokens=tokens + 1, context_tokens=context)
