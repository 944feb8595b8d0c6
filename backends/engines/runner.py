"""Run a loaded model: prefill in chunks over a KV cache, then token by token, stoppable at every layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from threading import Event as Flag
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from backends.engines.cache import Prefix
from backends.engines.kv import empty_cache
from backends.engines.originals.cogvlm.places import inputs_of as cogvlm_inputs
from backends.engines.pictures import FeatureStore
from backends.engines.prompt import Prompt

# Decoders that see a picture as embeddings in place of its placeholders and attend causally, so that a prompt
# may be computed in pieces. Others (Gemma 3 attends in both directions within a picture, Qwen-VL counts
# positions in three dimensions, Llama 3.2 cross-attends) go through `WholeRunner`.
MERGING = frozenset({"cogvlm", "llava", "llava_next"})

# What a pass over tokens [start, end) of a conversation takes beside the tokens, for families whose positions
# or weights depend on where pictures stand.
MoreInputs = Callable[[Prompt, int, int, torch.device], Mapping[str, Any]]
_MORE: Mapping[str, MoreInputs] = MappingProxyType({"cogvlm": cogvlm_inputs})


class Interrupted(Exception):
    """The cancel flag was found set in the middle of a forward pass."""


@contextmanager
def stoppable(model: nn.Module, cancel: Flag) -> Iterator[None]:
    """Raise `Interrupted` before the next layer once `cancel` is set: a prefill stops within one layer."""

    def check(*_: object) -> None:
        if cancel.is_set():
            raise Interrupted

    layers = [layer for module in model.modules() if isinstance(module, nn.ModuleList) for layer in module]
    # Before a layer's weights are brought, and after: bringing them may take longer than the layer.
    handles = [
        layer.register_forward_pre_hook(check, prepend=first) for layer in layers for first in (True, False)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class ChunkRunner:
    """For models whose prompt can be computed in pieces; the pieces are what conversations reuse."""

    def __init__(self, model: Any, features: FeatureStore, device: torch.device) -> None:
        self._model = model
        self._features = features
        self._device = device
        self._more = _MORE.get(model.config.model_type, _nothing_more)

    @torch.inference_mode()
    def prefill(self, prompt: Prompt, prefix: Prefix, ends: Sequence[int], cancel: Flag) -> None:
        """Compute the chunks up to the last of `ends` that `prefix` lacks, and add them to it.

        After `Interrupted` (or any other exception) `prefix` holds the chunks that were finished.
        """
        try:
            with stoppable(self._model, cancel):
                for end in ends[len(prefix.ends) :]:
                    self._forward(prompt, len(prefix), end, prefix.kv)
                    prefix.keys = prompt.keys[:end]
                    prefix.ends.append(end)
        except BaseException:
            prefix.cut_to(len(prefix.ends))
            raise

    @torch.inference_mode()
    def finish(self, prompt: Prompt, prefix: Prefix, cancel: Flag) -> torch.Tensor:
        """Compute the rest of `prompt`; returns the last token's logits [1, vocab]. `prefix` stays as it is,
        but its KV cache now holds more, which `Prefix.cut_to` removes.
        """
        with stoppable(self._model, cancel):
            return self._forward(prompt, len(prefix), len(prompt), prefix.kv)

    @torch.inference_mode()
    def step(self, token: int, prompt: Prompt, prefix: Prefix) -> torch.Tensor:
        """Logits [1, vocab] after one more token of the answer to `prompt`."""
        ids = torch.tensor([[token]], device=self._device)
        start = prefix.kv.get_seq_length()
        more = self._more(prompt, start, start + 1, self._device)
        output = self._model(
            input_ids=ids, past_key_values=prefix.kv, use_cache=True, logits_to_keep=1, **more
        )
        logits: torch.Tensor = output.logits[:, -1].to(self._device)
        return logits

    def _forward(self, prompt: Prompt, start: int, end: int, kv: Any) -> torch.Tensor:
        ids = torch.tensor([prompt.ids[start:end]], device=self._device)
        pictures = [span for span in prompt.spans if span.start < end and span.end > start]
        inputs: dict[str, Any] = {"input_ids": ids}
        if pictures:
            inputs = {"inputs_embeds": self._embed(ids, prompt, start, end)}
        inputs |= self._more(prompt, start, end, self._device)
        output = self._model(**inputs, past_key_values=kv, use_cache=True, logits_to_keep=1)
        logits: torch.Tensor = output.logits[:, -1].to(self._device)
        return logits

    def _embed(self, ids: torch.Tensor, prompt: Prompt, start: int, end: int) -> torch.Tensor:
        """Embeddings of tokens [start, end), the placeholders' replaced by the features of their pictures."""
        embeds: torch.Tensor = self._model.get_input_embeddings()(ids).clone()
        placeholder = self._model.config.image_token_id
        for span in prompt.spans:
            low, high = max(span.start, start), min(span.end, end)
            if low >= high:
                continue
            features = self._features.features(span.picture).to(embeds.device, embeds.dtype)
            before = prompt.ids[span.start : low].count(placeholder)
            marks = [i - start for i in range(low, high) if prompt.ids[i] == placeholder]
            embeds[0, marks] = features[before : before + len(marks)]
        return embeds


def _nothing_more(*_: object) -> Mapping[str, Any]:
    return {}


class WholeRunner:
    """For every other model: the whole prompt in one pass, prepared by the model's own generation code."""

    def __init__(self, model: Any, device: torch.device, dtype: torch.dtype) -> None:
        self._model = model
        self._device = device
        self._dtype = dtype
        self._state: dict[str, Any] = {}
        self._ids = torch.empty((1, 0), dtype=torch.long)

    @torch.inference_mode()
    def start(self, inputs: dict[str, Any], room: int, cancel: Flag) -> torch.Tensor:
        """Logits [1, vocab] after the prompt that the processor made; `room` tokens will fit in the cache."""
        moved = {key: self._moved(value) for key, value in inputs.items()}
        self._ids = moved.pop("input_ids")
        kv = empty_cache(self._model.config, room)
        self._state = moved | {"past_key_values": kv, "use_cache": True}
        if "position_ids" not in self._state and "position_ids" in signature(self._model.forward).parameters:
            # As `generate` does: families that count positions in three dimensions start anew without.
            self._state["position_ids"] = self._model._prepare_position_ids_for_generation(  # noqa: SLF001 - as above
                self._ids, self._state
            )
        prepared = self._model.prepare_inputs_for_generation(
            self._ids, is_first_iteration=True, logits_to_keep=1, **self._state
        )
        with stoppable(self._model, cancel):
            return self._run(prepared)

    @torch.inference_mode()
    def step(self, token: int) -> torch.Tensor:
        """Logits [1, vocab] after one more token."""
        new = torch.tensor([[token]], device=self._device)
        self._ids = torch.cat([self._ids, new], dim=-1)
        return self._run(
            self._model.prepare_inputs_for_generation(
                self._ids, next_sequence_length=1, logits_to_keep=1, **self._state
            )
        )

    def forget(self) -> None:
        """Drop the KV cache of the answer that ended."""
        self._state = {}

    def _run(self, prepared: dict[str, Any]) -> torch.Tensor:
        output = self._model(**prepared, return_dict=True)
        self._state = self._model._update_model_kwargs_for_generation(  # noqa: SLF001 - the hook of `generate`
            output,
            self._state,
            is_encoder_decoder=False,  # Mllama's has no default for it
        )
        logits: torch.Tensor = output.logits[:, -1].to(self._device)
        return logits

    def _moved(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return value.to(self._device, self._dtype if value.is_floating_point() else None)
